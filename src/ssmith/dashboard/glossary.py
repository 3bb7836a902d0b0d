"""The terms of the dashboard, each in a sentence that needs no other knowledge."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.dashboard.language import mark


@dataclass(frozen=True)
class Term:
    """One term: as it stands in headings, and its meaning in one or two sentences."""

    name: str
    meaning: str


TERMS = {
    "line": Term(mark("line"), mark(
        "All versions of one model, with a log of who changed what, when and why. One version at "
        "a time is live.")),
    "version": Term(mark("version"), mark(
        "One state of the model with everything that belongs to it: weights, settings, receipt "
        "and card. Versions are numbered in order of arrival and never change.")),
    "live": Term(mark("live"), mark(
        "The version that answers in production now. It changes only by a command that leaves an "
        "entry in the log.")),
    "waiting": Term(mark("waiting"), mark(
        "A version that was added and has not been live yet.")),
    "refused": Term(mark("refused"), mark(
        "A version that was to go live and broke a rule of the policy.")),
    "digest": Term(mark("digest"), mark(
        "A fingerprint of all files of a version (SHA-256). If one byte changes, so does the "
        "digest. Its first letters are enough to name the version in a command.")),
    "policy": Term(mark("policy"), mark(
        "The rules that a version must keep before it may go live. A change of the policy is an "
        "entry of the log.")),
    "override": Term(mark("override"), mark(
        "A version went live although a rule said no. It takes a written reason and stays visible "
        "for ever.")),
    "rollback": Term(mark("rollback"), mark(
        "Back to an earlier version, to the very same bytes, in one command.")),
    "log": Term(mark("log"), mark(
        "The history of a line. It only grows: each entry holds the fingerprint of the one before, "
        "so that no entry can be changed, removed or moved unseen.")),
    "head": Term(mark("head of the log"), mark(
        "The fingerprint of the last entry. Kept elsewhere, in an e-mail or a ticket, it proves "
        "later that nothing was cut off the end of the log.")),
    "signed": Term(mark("signed"), mark(
        "Made with a private key, so that the name beside the entry is proven. An unsigned entry "
        "names the account that was used, without proof.")),
    "receipt": Term(mark("receipt"), mark(
        "The record of one step: what was done, on which data, and what was measured before and "
        "after.")),
    "verdict": Term(mark("verdict"), mark(
        "Accepted or refused, by a tolerance that was set before measuring.")),
    "quality": Term(mark("quality"), mark(
        "How well the model does its task on test data it was not made with, in the task's own "
        "measure, for example the share of right answers.")),
    "interval": Term(mark("interval"), mark(
        "The range in which the true value lies with 95 % confidence. A difference whose interval "
        "holds zero may be chance.")),
    "points": Term(mark("points"), mark(
        "Percentage points: from 98 % to 97 % is one point.")),
    "size": Term(mark("size"), mark(
        "Bytes of the model on disk. 1 KB is 1000 bytes.")),
    "latency": Term(mark("latency"), mark(
        "Time the model takes for one batch of inputs, the median of several runs on the machine "
        "that the receipt names.")),
    "cost": Term(mark("cost"), mark(
        "An estimate of machine costs per month from the latency, a price per hour and a load that "
        "the receipt names. No invoice.")),
    "saving": Term(mark("saving"), mark(
        "Estimated cost of the first version minus that of the live one, over the time it was "
        "live.")),
    "removed": Term(mark("removed"), mark(
        "Parts of the model that were taken out because the answers hardly need them. Most often "
        "these are states: the numbers in which the model keeps what it has seen.")),
    "lineage": Term(mark("lineage"), mark(
        "What a version was made from, step by step, back to the model it began with.")),
    "card": Term(mark("card"), mark(
        "A short description that travels with the model: what it is for, how it was made and "
        "measured.")),
    "watch": Term(mark("watch"), mark(
        "A check of the live version on new data. It compares inputs, answers and speed with what "
        "was stored when the version was added.")),
    "profile": Term(mark("profile"), mark(
        "What inputs, answers and the inside of the model looked like when the version was added. "
        "A watch compares new data with it.")),
    "cut-drift": Term(mark("cut drift"), mark(
        "How much the removed parts would matter on today's data, against what they mattered when "
        "they were removed. 1 means as before. It needs no labels.")),
    "input-drift": Term(mark("input drift"), mark(
        "Whether today's inputs look different from those the model was checked on.")),
    "output-drift": Term(mark("output drift"), mark(
        "Whether the model answers differently from before: other shares of answers, or less "
        "certain ones.")),
    "promise": Term(mark("promise"), mark(
        "The quality that the receipt states. Where true answers arrive later, the watch compares "
        "with it.")),
    "alarm": Term(mark("alarm"), mark(
        "A finding of a watch that is beyond its limit. It names what to do as a command.")),
    "canary": Term(mark("canary"), mark(
        "Many requests at once, mixed at random; each must be answered as if it were alone.")),
    "audit": Term(mark("audit of behaviour"), mark(
        "Old and new version on the same inputs: which answers changed, in which group, and how "
        "often.")),
    "shadow": Term(mark("shadow"), mark(
        "The new version answers beside the live one, and its answers are only compared.")),
    "ab": Term(mark("A/B test"), mark(
        "Part of the users or machines gets the new version, and both are compared as answers "
        "arrive.")),
}  # fmt: skip
"""Key → term, in the order of the glossary page."""
