class Classifier:
    def __init__(self):
        raise RuntimeError("broken in init")
