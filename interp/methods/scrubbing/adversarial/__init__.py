"""Whether an explanation helps to find inputs on which the model errs.

``ground`` is the task: inputs, edits and right answers; ``atoms`` are the truths that a hypothesis
is made of; ``families`` writes inputs from them and ``edits`` without them; ``arms`` spends
queries; ``climb`` searches with ``outside``, the scrubbed model on inputs that are not among those
exchanged; ``attack`` does all of it; ``yields`` counts. All but ``climb``, ``outside`` and
``attack`` are torch-free.
"""
