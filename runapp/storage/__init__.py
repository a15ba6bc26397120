"""Blobs by digest, one bin per dataset, in a folder or in an object store with a local cache.

A bin holds everything of one dataset: its raw files, its parts, the submitted code and large
predictions, each kind in a folder of its own, so that a sandbox may be shown features without
labels lying beside them. Names are SHA-256 digests, so a blob never changes and two writers of
the same bytes agree. A dataset is deleted by removing its bin.
"""

from runapp.storage.bins import Bin, FolderStorage, Storage
from runapp.storage.blobs import (
    BlobWriter,
    Kind,
    Pulse,
    StoredBlob,
    Tree,
    compute_tree_digest,
)
from runapp.storage.remote import RemoteBin, RemoteStorage

__all__ = [
    "Bin",
    "BlobWriter",
    "FolderStorage",
    "Kind",
    "Pulse",
    "RemoteBin",
    "RemoteStorage",
    "Storage",
    "StoredBlob",
    "Tree",
    "compute_tree_digest",
]
