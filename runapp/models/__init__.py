"""The tables, by subject; Django looks for them here."""

from runapp.models.accounts import AccessToken as AccessToken
from runapp.models.accounts import DailyUse as DailyUse
from runapp.models.accounts import FairShare as FairShare
from runapp.models.accounts import Quota as Quota
from runapp.models.accounts import Share as Share
from runapp.models.accounts import make_public_id as make_public_id
from runapp.models.audit import AuditEvent as AuditEvent
from runapp.models.changes import Clock as Clock
from runapp.models.changes import Removals as Removals
from runapp.models.changes import Tally as Tally
from runapp.models.changes import make_epoch as make_epoch
from runapp.models.datasets import RawData as RawData
from runapp.models.datasets import make_storage_key as make_storage_key
from runapp.models.folds import MAX_CLIENT_ID as MAX_CLIENT_ID
from runapp.models.folds import MEASURES as MEASURES
from runapp.models.folds import FoldAttempt as FoldAttempt
from runapp.models.folds import Folds as Folds
from runapp.models.folds import Predictions as Predictions
from runapp.models.folds import Submission as Submission
from runapp.models.folds import SubmissionFold as SubmissionFold
from runapp.models.folds import is_measured as is_measured
from runapp.models.folds import keep_phase as keep_phase
from runapp.models.workers import Worker as Worker
