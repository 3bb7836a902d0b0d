"""Receipts from what JSON holds of them."""

from ssmith.core.receipt import RECEIPT_VERSION, Receipt

_EMPTY = {
    "action": "pilot", "model": {}, "method": {}, "seed": None, "versions": {}, "data": {},
    "removed": {}, "quality": {}, "speed": {}, "memory": {}, "size": {}, "parity": {},
    "saving": {}, "verdict": {}, "findings": [], "details": {}, "time": None,
    "receipt_version": RECEIPT_VERSION,
}  # fmt: skip


def receipt_of(**sections):
    """A receipt of some sections."""
    return Receipt.from_json(_EMPTY | sections)


def changed(receipt, **sections):
    """A receipt with other sections."""
    return Receipt.from_json(receipt.as_dict() | sections)
