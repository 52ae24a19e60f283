"""Sources that several kinds of analysis cite."""

from __future__ import annotations

from typing import Final

from interp.analyses._record import Cite

CAUSAL_SCRUBBING: Final = Cite(
    "Chan et al. (2022), Causal scrubbing",
    "@misc{chan2022scrubbing,\n  author = {Chan, Lawrence and others},\n"
    "  title = {Causal Scrubbing: a method for rigorously testing interpretability "
    "hypotheses},\n  howpublished = {AI Alignment Forum},\n  year = {2022}\n}",
)
ANOMALY_DETECTION: Final = Cite(
    "Christiano (2022), Mechanistic anomaly detection and ELK",
    "@misc{christiano2022mad,\n  author = {Christiano, Paul},\n"
    "  title = {Mechanistic anomaly detection and {ELK}},\n"
    "  howpublished = {Alignment Research Center},\n  year = {2022}\n}",
)
PATCHING_PRACTICES: Final = Cite(
    "Zhang & Nanda (2024), Towards best practices of activation patching",
    "@inproceedings{zhang2024patching,\n  author = {Zhang, Fred and Nanda, Neel},\n"
    "  title = {Towards Best Practices of Activation Patching in Language Models: "
    "Metrics and Methods},\n  booktitle = {ICLR},\n  year = {2024}\n}",
)
