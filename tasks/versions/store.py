"""What DVC keeps of earlier versions: files of other commits, shared caches, and what nothing needs any more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import DatasetError
from keypipe.files.atomic import replacing_file
from tasks.versions.remote import ask_dvc
from tasks.versions.repository import opened, relative, waiting


class Unused(msgspec.Struct, frozen=True):
    """What of DVC's cache nothing needs.

    Attributes:
        objects: number of files in the cache.
        size_bytes: of all of them.
        shared_cache: the cache, where it lies outside the workspace; it may serve others and was not looked at.
    """

    objects: int
    size_bytes: int
    shared_cache: str = ""


def unused_objects(root: Path, commits: Sequence[str], folders: Iterable[str] = (), *, remove: bool) -> Unused:
    """Find, and remove, what neither the workspace nor a tip of a branch, a tag or one of some commits needs.

    This is ``dvc gc --workspace --all-branches --all-tags --all-experiments``, for which DVC takes one further commit
    at most.

    Args:
        root: the workspace, in git.
        commits: further commits whose objects stay.
        folders: names of the lists of further folders that stay with all their files, such as ``3434b78c….dir``.
        remove: remove them as well.
    """
    from dvc_data.hashfile.gc import gc

    with opened(root) as repo, waiting(repo):
        cache = Path(repo.cache.local_cache_dir)
        if not cache.resolve().is_relative_to(root.resolve()):
            return Unused(0, 0, str(cache))
        by_remote = repo.used_objs(
            all_branches=True, all_tags=True, all_experiments=True, revs=list(commits), force=True
        )
        used = set().union(*by_remote.values())
        used |= _objects_of(repo, folders)
        objects = size = 0
        for odb in {id(odb): odb for _, odb in repo.cache.by_scheme() if odb}.values():
            names = {info.value for info in used if info.name == odb.hash_name}
            sizes = [odb.fs.size(odb.oid_to_path(oid)) for oid in odb.all() if oid not in names]
            objects, size = objects + len(sizes), size + sum(sizes)
            if remove:
                gc(odb, used)
        return Unused(objects, size)


def _objects_of(repo: Any, folders: Iterable[str]) -> set[Any]:
    """Return the names of folders' lists, and of the files in them, as far as the cache has the lists."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    found: set[Any] = set()
    for md5 in folders:
        found.add(HashInfo("md5", md5))
        if repo.cache.local.exists(md5):
            tree = Tree.load(repo.cache.local, HashInfo("md5", md5))
            found |= {entry for _, (_, entry) in tree.iteritems() if entry is not None}
    return found


def list_folders(root: Path, md5s: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the md5 of every file of some folders, by its path inside, as far as DVC's cache has their lists.

    Args:
        root: the workspace.
        md5s: names of the folders' lists, such as ``3434b78c….dir``.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    found: dict[str, dict[str, str]] = {}
    with opened(root) as repo:
        for md5 in md5s:
            if repo.cache.local.exists(md5):
                tree = Tree.load(repo.cache.local, HashInfo("md5", md5))
                found[md5] = {"/".join(key): str(entry.value) for key, (_, entry) in tree.iteritems()}
    return found


def share_cache(root: Path, owner: Path) -> None:
    """Let a workspace use the cache and the remotes of another one, by its ``.dvc/config.local``.

    Args:
        root: the workspace that borrows.
        owner: the workspace that has them.
    """
    with opened(owner) as repo:
        cache = repo.cache.local_cache_dir
        remotes = {name: {**remote, "url": str(remote["url"])} for name, remote in repo.config["remote"].items()}
        default = repo.config["core"].get("remote")
    with opened(root) as repo, repo.config.edit("local") as config:
        config["cache"]["dir"] = cache
        config["remote"] = remotes
        if default:
            config["core"]["remote"] = default


def checkout(root: Path, *targets: str) -> list[str]:
    """Bring versioned files into the workspace, from the cache or else from the remote.

    Args:
        root: the workspace.
        targets: what to bring, relative to it; default: everything.

    Returns:
        What neither of them has.
    """
    from dvc.exceptions import CheckoutError

    files = [target for target in targets if target.endswith(".dvc")]
    outputs = [target for target in targets if target not in files]
    if files and outputs:  # asked for both at once, DVC deletes the outputs
        return sorted({*checkout(root, *files), *checkout(root, *outputs)})
    paths = [str(root / target) for target in targets]
    with opened(root) as repo:
        has_one = bool(repo.config["core"].get("remote"))
        with suppress(CheckoutError):
            repo.checkout(paths or None, force=True)
            return []
    if has_one:
        with suppress(DatasetError):  # what it could not bring is named below
            ask_dvc(root, "fetch-files", paths)
    with opened(root) as repo:
        try:
            repo.checkout(paths or None, force=True)
        except CheckoutError as error:
            never_made = {relative(root, out) for out in repo.index.outs if not out.hash_info}
            missing = {Path(os.path.relpath(path, root)).as_posix() for path in error.target_infos}
            return sorted(missing - never_made)
    return []


@contextmanager
def opened_commit(root: Path, commit: str) -> Iterator[Callable[[str], bytes | None]]:
    """Yield a function that reads a file of a commit, whether git or DVC holds it, by its path in the workspace.

    The function returns None for a file that the commit does not have or the cache has lost.
    """
    with opened_tree(root, commit) as (read, _):
        yield read


@contextmanager
def opened_tree(root: Path, commit: str) -> Iterator[tuple[Callable[[str], bytes | None], Callable[[str], list[str]]]]:
    """Yield that function, and one that returns the names of the files in a folder, none where it is not there."""
    with opened(root) as repo, repo.switch(commit):

        def read(path: str) -> bytes | None:
            place = repo.dvcfs.from_os_path(path)
            try:
                with repo.dvcfs.open(f"/{place}", "rb") as file:
                    return bytes(file.read())
            except (FileNotFoundError, IsADirectoryError):
                return None

        def names(folder: str) -> list[str]:
            place = repo.dvcfs.from_os_path(folder)
            try:
                entries = repo.dvcfs.ls(f"/{place}", detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(Path(entry["name"]).name for entry in entries if entry["type"] == "file")

        yield read, names


def has_remote(root: Path) -> bool:
    """Tell whether DVC has a remote that it takes by default."""
    with opened(root) as repo:
        return bool(repo.config["core"].get("remote"))


def fetch_folder(root: Path, md5: str) -> bool:
    """Bring a folder's list and files into the cache from the remote, as far as they are not there.

    Args:
        root: the workspace.
        md5: name of the folder's list, such as ``3434b78c….dir``.

    Returns:
        Whether the cache has all of it now.

    Raises:
        DatasetError: the remote does not answer, or refuses.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    with opened(root) as repo:
        cache, info = repo.cache.local, HashInfo("md5", md5)
        _pull(root, repo, {info})
        if not cache.exists(md5):
            return False
        wanted = {entry for _, (_, entry) in Tree.load(cache, info).iteritems()}
        _pull(root, repo, wanted)
        return all(cache.exists(entry.value) for entry in wanted)


def _pull(root: Path, repo: Any, names: set[Any]) -> None:
    """Bring objects from the remote that the cache lacks, where there is a remote."""
    missing = {name.value for name in names if not repo.cache.local.exists(name.value)}
    if missing and repo.config["core"].get("remote"):
        ask_dvc(root, "fetch", missing)


def copy_cached(root: Path, md5: str, target: Path) -> None:
    """Copy a file out of the cache as an ordinary file; one that is there is replaced whole."""
    with opened(root) as repo:
        source = Path(repo.cache.local.oid_to_path(md5))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(target) as temporary:
        shutil.copyfile(source, temporary)


def push_data(root: Path, seconds: float | None = None) -> None:
    """Push what the workspace's ``.dvc`` files and ``dvc.lock`` name to DVC's remote.

    Args:
        root: the workspace.
        seconds: time that the remote may take; None: as ``ask_dvc`` has it.

    Raises:
        BusyError: another DVC command is at work.
        DatasetError: the remote does not take it.
    """
    ask_dvc(root, "push", seconds=seconds)
