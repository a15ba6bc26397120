Classifier = 3
