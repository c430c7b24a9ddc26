"""Use a trained model: export it, and classify recordings with it.

>>> from pipeline.serving import Predictor
>>> predictor = Predictor("models/export/model.tflite")
>>> for prediction in predictor.files(["data/raw/yes/voice000_nohash_0.wav"]):
...     print(prediction.path, prediction.label, prediction.probability)
"""

from pipeline.serving.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
