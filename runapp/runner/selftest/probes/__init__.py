"""The probing submission: its files are sent as text and run where a participant's would.

They know nothing of datarun and need nothing but the standard library. What they tell is data.
"""
