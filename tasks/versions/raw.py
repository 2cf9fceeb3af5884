"""The raw data as DVC versions them: ``data/raw``, and the name of its content in ``data/raw.dvc``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from keypipe.errors import DatasetError
from tasks.progress import Progress
from tasks.versions import git
from tasks.versions.repository import opened, waiting, written_whole
from tasks.workspace.documents import parse_yaml
from tasks.workspace.places import RAW, RAW_FILE, REPLACED

ATTEMPTS = 3
"""How often files that people save while they are versioned are looked at anew."""


_DEAD_LINK = "a link to nothing, which no version can hold; put the file itself there, or take it out"


class RawChanges(NamedTuple):
    """Files of ``data/raw`` that differ from its last version."""

    added: int
    modified: int
    deleted: int


class RawVersion(NamedTuple):
    """The raw data that a run sees.

    Attributes:
        md5: name of DVC's ``.dir`` object, which lists an md5 for every file.
        files: number of files.
        size_bytes: of all files together.
        changed: it differs from what was versioned before.
    """

    md5: str
    files: int
    size_bytes: int
    changed: bool


def raw_version(root: Path) -> str | None:
    """Return the ``.dir`` md5 that ``data/raw.dvc`` names, or None before the first version."""
    return read_md5((root / RAW_FILE).read_text(encoding="utf-8")) if (root / RAW_FILE).exists() else None


def read_md5(text: str) -> str | None:
    """Return the md5 that a ``.dvc`` file names."""
    outs = (parse_yaml(text, RAW_FILE.name) or {}).get("outs") or [{}]
    md5 = outs[0].get("md5")
    return str(md5) if md5 else None


def raw_changes(root: Path) -> RawChanges | None:
    """Count the files of ``data/raw`` that differ from its last version; takes no lock.

    Returns:
        The counts, or None when there is no version to compare with.
    """
    with opened(root) as repo:
        if not (root / RAW_FILE).exists():
            return None
        (out,) = _load(repo, root).outs
        if not out.exists:
            return None
        _, _, now = _build(out, None, dry_run=True)
        if now.hash_info == out.hash_info:
            return RawChanges(0, 0, 0)
        before = out.get_obj()
        if before is None:
            return None
        old, new = ({key: hash_info.value for key, _, hash_info in tree} for tree in (before, now))
        modified = sum(old[key] != new[key] for key in old.keys() & new.keys())
        return RawChanges(len(new.keys() - old.keys()), modified, len(old.keys() - new.keys()))


def version_raw(root: Path, progress: Progress | None = None) -> RawVersion:
    """Version the raw folder, and name its content.

    As ``dvc add data/raw`` does, with two differences. The files are walked through once, where DVC walks for its
    status and again for the addition. And the files stay what they are: DVC would link them anew to its cache where
    its ``cache.type`` says so, and labelme cannot save into a read-only link.

    Args:
        root: the workspace.
        progress: is told how far it is.

    Raises:
        DatasetError: the folder is absent, empty, a link, has a link to nothing, or files that git tracks.
    """
    check_raw(root)
    with opened(root) as repo, waiting(repo), repo.scm_context(quiet=True):
        from dvc.exceptions import DvcException
        from dvc.lock import LockError

        before = raw_version(root)
        try:
            stage = _load(repo, root) if before is not None else _create(repo, root)
            (out,) = stage.outs
            for _ in range(ATTEMPTS):
                try:
                    staging, meta, tree = _build(out, progress)
                except FileNotFoundError as error:  # listed, and gone when it was read
                    edited = [str(error.filename)]
                    continue
                version = RawVersion(
                    str(tree.hash_info.value), int(meta.nfiles), int(meta.size), changed=tree.hash_info.value != before
                )
                if not version.changed and not out.changed_cache():
                    return version
                edited = _keep(out, staging, tree, progress)
                if not edited:
                    break
            else:
                what = f"{edited[0]} changes again and again, or is gone, while it is versioned"
                raise DatasetError(f"{RAW}: {what}; run again later")
            out.ignore()
            out.obj, out.hash_info, out.meta, out.files = tree, tree.hash_info, meta, None
            with written_whole(root, RAW_FILE):
                stage.dump()
        except LockError:
            raise
        except UnicodeEncodeError as error:
            raise DatasetError(f"{RAW}: a file name in it is not UTF-8: {error.object!a}; rename it") from error
        except DvcException as error:
            raise DatasetError(f"{RAW}: DVC cannot version it: {error}") from error
        return version


def kept_version(repo: Any, root: Path) -> RawVersion | None:
    """Return the raw data where they are what was versioned last and DVC's cache has all of them; nothing is written.

    Args:
        repo: DVC's, open and locked.
        root: the workspace.

    Returns:
        None where ``version_raw`` has something to do.
    """
    before = raw_version(root)
    if before is None:
        return None
    (out,) = _load(repo, root).outs
    try:
        _, meta, tree = _build(out, None)
    except FileNotFoundError:  # listed, and gone when it was read
        return None
    if tree.hash_info.value != before or out.changed_cache():
        return None
    return RawVersion(before, int(meta.nfiles), int(meta.size), changed=False)


def hash_raw(repo: Any, root: Path) -> str:
    """Return the md5 of the raw data as they are now, which DVC's state makes a walk without reading."""
    (out,) = _load(repo, root).outs
    _, _, tree = _build(out, None)
    return str(tree.hash_info.value)


def _build(out: Any, progress: Progress | None, *, dry_run: bool = False) -> Any:
    """Hash the files that are new or changed, and return where they are staged, the sizes, and the list of all.

    Raises:
        DatasetError: a file is a link to nothing.
        FileNotFoundError: it was listed, and gone when it was read.
    """
    from dvc_data.hashfile.build import build

    callback = _callback(progress, "files hashed")
    try:
        return build(
            out.cache, out.fs_path, out.fs, out.hash_name, ignore=out.dvcignore, callback=callback, dry_run=dry_run
        )
    except FileNotFoundError as error:
        if Path(str(error.filename)).is_symlink():
            raise DatasetError(f"{error.filename}: {_DEAD_LINK}") from error
        raise


def _keep(out: Any, staging: Any, tree: Any, progress: Progress | None) -> list[str]:
    """Copy what DVC's cache does not have.

    DVC copies a file some time after it has hashed it, and trusts its cache from then on. A file that somebody saves
    in between would lie there under a name that is not its own, so such copies are removed again.

    Returns:
        The files that were edited meanwhile; none: the cache has everything.
    """
    from dvc_data.hashfile.transfer import transfer

    callback = _callback(progress, "new files kept")
    done = transfer(staging, out.cache, {tree.hash_info}, shallow=False, callback=callback)
    edited: list[str] = []
    for key, meta, hash_info in tree:
        if hash_info in done.failed or (hash_info in done.transferred and _is_edited(Path(out.fs_path, *key), meta)):
            edited.append("/".join(key))
            Path(out.cache.oid_to_path(hash_info.value)).unlink(missing_ok=True)
    if edited and tree.hash_info in done.transferred:
        Path(out.cache.oid_to_path(tree.oid)).unlink(missing_ok=True)
    return edited


def _is_edited(path: Path, meta: Any) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return True
    return (now.st_mtime, now.st_size, now.st_ino) != (meta.mtime, meta.size, meta.inode)


def _callback(progress: Progress | None, what: str) -> Any:
    """Return fsspec's form of a function that is told of progress."""
    from fsspec.callbacks import DEFAULT_CALLBACK, Callback

    if progress is None:
        return DEFAULT_CALLBACK
    tell = progress

    class Told(Callback):  # type: ignore[misc]
        def call(self, *_: Any, **__: Any) -> None:
            if self.size:
                tell(what, self.value, self.size)

    return Told()


def _load(repo: Any, root: Path) -> Any:
    return repo.stage.load_one(path=str(root / RAW_FILE))


def _create(repo: Any, root: Path) -> Any:
    """Return a new ``data/raw.dvc``, not yet written, that overlaps with nothing that DVC keeps."""
    from dvc.repo.add import get_or_create_stage

    stage, _ = get_or_create_stage(repo, str(root / RAW))
    repo.check_graph(stages=[stage])
    return stage


def check_raw(root: Path) -> None:
    """Check that the raw folder is one that DVC can version.

    Raises:
        DatasetError: the folder is absent, empty, a link, or has files that git tracks.
    """
    raw = root / RAW
    advice = "put your labelme JSON files and images there, or run `keypipe demo`"
    if not raw.exists() and not raw.is_symlink():
        if aside := sorted((root / REPLACED).glob(f"*/{RAW}")):  # of a `use` that was killed between two renames
            advice = (
                f"the data before lie in {aside[-1].relative_to(root)}: move them back, or give others to `keypipe use`"
            )
        raise DatasetError(f"{RAW}: not there; {advice}")
    if any(part.is_symlink() for part in (raw, raw.parent)):
        raise DatasetError(f"{RAW}: is a link, which DVC does not follow; put the files themselves there")
    if not raw.is_dir():
        raise DatasetError(f"{RAW}: is not a folder; {advice}")
    if not any(path.is_file() for path in raw.rglob("*")):
        raise DatasetError(f"{RAW}: empty; {advice}")
    tracked = git.ask(root, "ls-files", "--", str(RAW))
    if tracked:
        names = tracked.splitlines()
        raise DatasetError(
            f"{RAW}: git tracks {len(names)} of its files, such as {names[0]}, and DVC needs them to itself; "
            f"run `git rm -r --cached {RAW}`"
        )


def list_raw(root: Path) -> dict[str, str]:
    """Return the md5 of every file of ``data/raw`` as it is now, by its path inside; nothing is written or kept.

    Before the first version, that is nothing: DVC looks at what it knows.
    """
    with opened(root) as repo:
        if not (root / RAW_FILE).exists():
            return {}
        (out,) = _load(repo, root).outs
        if not out.exists:
            return {}
        _, _, tree = _build(out, None, dry_run=True)
        return {"/".join(key): str(entry.value) for key, _, entry in tree}
