"""What an account is, sees and may have: access, visible rows, passwords, tokens, quotas."""
