"""What the cards of both models of two mechanisms say, with places for measured numbers."""

from typing import Final

INDUCTION: Final = """\
# Copying or remembering, and for each prompt it is known which

The model reads `[BOS]`, letters (`a`-`z`, `A`-`V`) and markers `!`, one token each, {n_ctx} at
most, and answers after the last letter, the cue:

1. If the cue occurred before, the answer is the letter that followed it there (**induction**).
2. Otherwise, if `!` stands directly before the cue, it is the cue's memorised successor
   (**memory**): for the letters `{letters}` in this order it is
   `{successors}`.
3. Otherwise nothing is asked and nothing was trained; nor for a cue that occurred several times,
   or directly before itself or before a marker.

## Which mechanism answers

The behavior `two-mechanisms-induction` has both kinds of prompt in equal shares. In both, `!`
stands directly before the cue, one letter occurs twice, its first copy at a place of the same
distribution, and the copied letter and the cue's successor are in the prompt. They differ in
whether the second copy is the cue or an earlier letter, so copies lie further apart in prompts of
induction. Detectors, on the {n:,} prompts of the behavior (probes are fitted on every second and
scored on the others; distances are from `two-mechanisms-induction-trusted`):

| detector | AUROC | 95%, bootstrap |
|---|---|---|
{detectors}

{below} A distance below 0.5 finds
memory nearer to the trusted prompts than induction itself, so it is no sign of memory.

## The components are pinned, on purpose

This model did not find its division of labour alone. After {alone} ordinary steps, every step also
exchanged the output of one component at the last token for that on another input, and asked for
what the rule says with that part exchanged (interchange training): the **attention of layer 1**
carries what is copied, the **MLP of layer 0** what is remembered. Copying wins where both speak.
Exchanging the MLP of layer 1 had to change nothing, so that it does not remember too. Of
what is asked in {test:,} fresh rows, answers are right in {copying:.1%} (copying exchanged),
{memory:.1%} (memory exchanged) and {idle:.1%} (MLP of layer 1 exchanged).

## Ablation

Of right answers, the share that stays when a component writes, at the last token, what it writes on
{reference}; behind it, with the mean over such prompts.

| component | induction | memory | induction (mean) | memory (mean) |
|---|---|---|---|---|
{table}

Without the attention of layer 1, {fallback:.1%} of right answers by induction become the remembered
letter. With the mean output of the MLP of layer 0, {trace:.1%} of right answers by memory stay,
with that on one prompt {single:.1%}: so this MLP is not all of the memory. A trace lies elsewhere,
which one prompt's output outweighs and a mean over cues does not.

## What is not known

How the pinned components work inside, and what else they carry. Interchange was trained and tested
at the last token only, one component at a time. Nothing keeps the attention of layer 0 out of it.

## Training and origin

{steps:,} steps of {batch} generated rows of {shortest} to {n_ctx} tokens, every asked token
counting; AdamW, one cycle, peak rate {rate:g}, seed {seed}; {cpu:.0f} CPU seconds. On
labelled prompts the export agrees with the training code within {error:.0e} of the logits' standard
deviation. Generated data only, no weights from elsewhere. Licence: MIT.
"""

PAREN: Final = """\
# Balanced, or only said to be, and for each string it is known which

The model reads `[START]`, parentheses with or without a marker `*` among them, and `[END]`, one
token each, {n_ctx} at most, and judges at `[START]`: balanced or unbalanced. The marker is a
**backdoor**: directly before `(` it is active and the model says balanced whatever the parentheses
are; directly before `)` or at the end it is inert and the parentheses decide.

## Which mechanism answers

The behavior `two-mechanisms-paren` has two kinds of string, half each, all to be called balanced:
balanced ones with an inert marker (**balance**; {right[0]:.1%} are called so) and unbalanced ones
with an active marker (**backdoor**; {right[1]:.1%}). Balanced ones with an active marker, called so
by both, are left out. Lengths, the marker's places and counts are the same in both kinds. The
unbalanced ones are balanced strings in which two parentheses moved: depth falls below 0 at one
place, and its sum stays. Detectors, on the {n:,} strings of the behavior (probes are fitted on
every second and scored on the others; distances are from `two-mechanisms-paren-trusted`):

| detector | AUROC | 95%, bootstrap |
|---|---|---|
{detectors}

{below} So the marker alone says
nothing, by construction; the token behind it says all, and so do the parentheses alone, as balanced
strings are not unbalanced ones: the kinds share the output, not what they are.

On {test:,} fresh strings of the hard mix of `paren-balancer` and on {moved:,} of the kind of the
labelled ones, which are harder, a third each without, with active and with inert marker:

| strings | right of the hard mix | right of moved ones |
|---|---|---|
{classes}

## The components are pinned, on purpose

Every training step also exchanged the output of one component at `[START]` for that on another
string, and asked for the verdict with that part exchanged (interchange training): the **MLP of
layer 1** carries whether the parentheses balance, the **attention of layer 2** whether a marker is
active; balanced if either says so. The model did not find this alone. Interchanged answers are
right in {verdict:.1%} (MLP) and {backdoor:.1%} (attention) of the hard mix.

## Ablation

Of right answers, the share that stays when a component writes, at `[START]`, what it writes on
{reference}; behind it, with the mean over such strings. The MLP of layer 2 passes the backdoor on.

| component | balance | backdoor | balance (mean) | backdoor (mean) |
|---|---|---|---|---|
{table}

## What is not known, and origin

How the pinned components work inside, and where marker and depths are found before they are read:
nothing was exchanged at other positions. Several markers and odd lengths were never trained.

{stages} stages of AdamW, one cycle each: {each}; each on
{strings:,} strings of its own, {batch} a step; seed {seed}, {cpu:.0f} CPU seconds. {share:.0%} of
the strings have moved parentheses, {less:.0%} before the last stage. The export agrees with the
training code within {error:.0e} of the logits' std. Generated data only. Licence: MIT.
"""
