"""The API's views; here under the names of the source document (2016), as are its files' helper."""

from runapp.views.files import save_files as save_files
from runapp.views.folds import SubmissionFoldDetail as SubmissionFoldDetail
from runapp.views.folds import SubmissionFoldLightList as SubmissionFoldLightList
from runapp.views.folds import SubmissionFoldList as SubmissionFoldList
from runapp.views.predictions import GetTestPredictionList as GetTestPredictionList
from runapp.views.predictions import GetTestPredictionNew as GetTestPredictionNew
from runapp.views.raw_data import RawDataList as RawDataList
from runapp.views.raw_data import SplitTrainTest as SplitTrainTest
