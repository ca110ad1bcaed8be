"""Golden values for src/evaluation/curve.rs. Needs scikit-learn; run: python tests/golden/auc.py"""

import sklearn
from sklearn.metrics import average_precision_score, roc_auc_score

score = [0.1, 0.4, 0.35, 0.8, 0.4, 0.05, 0.8, 0.2]
truth = [0, 0, 1, 1, 1, 0, 0, 0]
print("scikit-learn", sklearn.__version__)
print("average precision", repr(average_precision_score(truth, score)))
print("ROC AUC", repr(roc_auc_score(truth, score)))
