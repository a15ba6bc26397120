def explode():
    raise ValueError("broken at import")


explode()
