"""After a death: make the ledger and the folders agree again, so that each scene is in one place and one status.

Every move and every ledger entry is durable before the next step, so what a crash can leave is known, and each case
below is one such gap.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path

from runtime.daemon.fingerprint import fingerprint_of_status
from runtime.daemon.folders import REASON, Folders, reason_in, same_bytes
from runtime.daemon.gathering import return_gathered
from runtime.daemon.item import ItemError, about
from runtime.daemon.ledger import CLAIMED, WAITING, Ledger, Row, Status
from runtime.daemon.rebuild import restore
from runtime.products.publish import mask_key_of, tags_of
from sarwater.atomic import fsync_folder
from sarwater.identity import mask_name
from sarwater.tags import INPUT_TAG, MASK_KEY_TAG

log = logging.getLogger("sarwater.watch")

_JOB = re.compile(r"[0-9]{1,18}")


def recover(ledger: Ledger, folders: Folders, remove_done: bool, no_space: bool = False) -> None:
    """Settle what the last daemon left. Afterwards every claimed row is CLAIMED and has its input in work.

    `no_space`: it ended because the disk was full, so the attempt that was cut short does not count.
    """
    folders.drop_probes()
    if not folders.read_only_inbox:
        return_gathered(folders.incoming)
    if ledger.is_empty and (restored := restore(ledger, folders)):
        found = ", ".join(f"{count} {status.value}" for status, count in restored.items())
        log.warning("%s: there was no ledger; made anew from what lies in the folders: %s", folders.state, found)
    for row in ledger.rows(*CLAIMED):
        _recover_claimed(ledger, folders, row, no_space)
    _adopt_masks(ledger, folders)
    for row in ledger.rows(*WAITING):
        _recover_waiting(ledger, folders, row)
    for folder in sorted(folders.work.iterdir()):
        try:
            with about(folder.name):
                _settle(ledger, folders, folder, remove_done)
        except ItemError as error:
            log.error("%s: cannot be cleared (%s); left as it is, for the next start or for you", folder, error)


def _settle(ledger: Ledger, folders: Folders, folder: Path, remove_done: bool) -> None:
    """A folder under work, by what the ledger says of its job."""
    owner = ledger.row(int(folder.name) if _JOB.fullmatch(folder.name) else -1)
    if owner is None or owner.status in WAITING or owner.status is Status.IGNORED:
        _return_orphan(folders, folder)
    elif owner.status in (Status.PUBLISHED, Status.DUPLICATE):
        # The ledger knew, but the input had not been moved yet.
        folders.retire(owner.id, owner.name, remove_done)
    elif owner.status is Status.QUARANTINED:
        _forget_twin(folders, owner)


def _adopt_masks(ledger: Ledger, folders: Folders) -> None:
    """Masks that the ledger does not know, because it was lost or because `sarwater predict` made them there: their
    tags say what they were made of, so that nothing is made twice, under whatever name its scene comes."""
    unknown = (mask for mask in folders.outgoing.glob(mask_name("*")) if not ledger.knows_mask(mask.name))
    tags = {mask.name: tags_of(mask) for mask in unknown}
    masks = [
        (name, found[MASK_KEY_TAG], found.get(INPUT_TAG, ""))
        for name, found in tags.items()
        if MASK_KEY_TAG in found and ledger.holder(found[MASK_KEY_TAG]) is None
    ]
    if masks:
        log.warning("%s: %d of our masks are not in the ledger; they count as published", folders.outgoing, len(masks))
        fsync_folder(folders.outgoing)
        with ledger.transaction():
            for mask in sorted(masks):
                ledger.adopted(*mask)


def _recover_claimed(ledger: Ledger, folders: Folders, row: Row, no_space: bool) -> None:
    held = folders.held(row.id, row.name)
    inbox = folders.incoming / row.name
    if _is_visible(folders, row):
        fsync_folder(folders.outgoing)
        ledger.published(row.id, [str(row.mask)])
        return
    if (folders.quarantine_folder(row.id) / REASON).is_file():
        reason, message, _ = reason_in(folders.quarantine_folder(row.id))
        ledger.quarantined(row.id, reason, message)
        return
    if no_space and row.interruptions > 0:
        ledger.given_back(row.id)
    if held is not None:
        _keep_one(folders, held, row.name)
        ledger.recovered(row.id)
    elif inbox.exists() and fingerprint_of_status(inbox.lstat()).inode == row.inode:
        ledger.resighted(row.id, Status.SEEN, row.fingerprint.moved_to(inbox))
    else:
        log.error("%s: claimed as job %d, but gone from %s; somebody took it", row.name, row.id, folders.work)
        ledger.ignored(row.id, "vanished", "the claimed input was taken away while no daemon ran")


def _recover_waiting(ledger: Ledger, folders: Folders, row: Row) -> None:
    if folders.read_only_inbox:
        return
    held = folders.held(row.id, row.name)
    if held is not None:
        _keep_one(folders, held, row.name)
        if os.path.lexists(folders.incoming / row.name):  # another scene: what lies beside it is its own
            folders.forget_quarantine(row.id, row.name)
        else:
            folders.secure(row.id, row.name)
        ledger.claimed(row.id)  # the rename was done, the ledger not yet told
    elif (left := folders.quarantined(row.id, row.name)) and not same_bytes(left, folders.incoming / row.name):
        ledger.quarantined(row.id, "requeue_interrupted", "the requeue was cut short; ask for it again")


def _return_orphan(folders: Folders, folder: Path) -> None:
    """A claimed scene that no ledger knows (the ledger was lost, or an empty folder was left): back to the inbox."""
    if not folder.is_dir():
        return
    for path in folder.glob("input*"):
        name = f"recovered-{folder.name}{path.suffix}"
        while os.path.lexists(folders.incoming / name) and not same_bytes(path, folders.incoming / name):
            name = f"re{name}"  # an earlier ledger was lost with another scene under that number
        if os.path.lexists(folders.incoming / name):
            path.unlink()  # a power cut in the step below left it under both names
            continue
        log.warning("%s: claimed by a ledger that is gone; given back to the inbox as %s", path, name)
        folders.release(path, name)
    folders.drop(folder)


def _forget_twin(folders: Folders, row: Row) -> None:
    """A move to quarantine was cut short with the scene in both places: keep the one in quarantine."""
    held, quarantined = folders.held(row.id, row.name), folders.quarantined(row.id, row.name)
    if held and quarantined and same_bytes(held, quarantined):
        shutil.rmtree(folders.folder(row.id))


def _is_visible(folders: Folders, row: Row) -> bool:
    """Did it die between the mask's link and the ledger's entry?

    Not where it was published before and sent round again: then the mask was there all the time, and says nothing of
    the side products that this round was to add.
    """
    first_round = row.status is Status.RUNNING and row.products is None
    return first_round and row.mask is not None and mask_key_of(folders.outgoing / row.mask) == row.key


def _keep_one(folders: Folders, held: Path, name: str) -> None:
    """A claim, or giving it back, was cut short with the file under both names: keep the claim."""
    inbox = folders.incoming / name
    if not folders.read_only_inbox and held.is_file() and inbox.is_file() and held.samefile(inbox):
        inbox.unlink()
        fsync_folder(folders.incoming)
