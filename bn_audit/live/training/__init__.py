"""Real training between the rounds: the same model in FedAvg, in FedBN, alone, and by a framework's setting.

Importing it imports torch.
"""

from bn_audit.live.training.data import Data, given_data
from bn_audit.live.training.digits import digits_for
from bn_audit.live.training.local import Local
from bn_audit.live.training.run import Options, train
from bn_audit.live.training.seeds import seeded

__all__ = ["Data", "Local", "Options", "digits_for", "given_data", "seeded", "train"]
