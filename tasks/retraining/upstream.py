"""The workspace and what others push: brought up to date, and results committed, without touching what people edit.

What keypipe writes itself (``dvc.lock``, figures, the manifest, the name of the raw data's version) never stands in the
way of a pull: it is laid aside, the branch goes forward, and it is laid back. What stands in ``data/raw`` is versioned
before, and merged file by file: a file that was changed here and there stops everything before anything moved.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from keypipe.errors import DatasetError, PoseError
from keypipe.files.atomic import replacing_file
from keypipe.splits.manifest import format_manifest, parse_manifest
from tasks.progress import Progress
from tasks.retraining.start import NOTE, starts_from_champion
from tasks.versions import git
from tasks.versions.raw import RawVersion, raw_version, read_md5, version_raw
from tasks.versions.remote import GIT_SECONDS, run_limited
from tasks.versions.repository import BusyError
from tasks.versions.stages.acceptance import ACCEPTED, CODE
from tasks.versions.stages.state import all_outputs
from tasks.versions.store import checkout, copy_cached, fetch_folder, has_remote, list_folders, push_data
from tasks.versions.weights import list_versioned
from tasks.workspace.places import LOCK, MANIFEST, PARAMS_FILE, RAW, RAW_FILE, STATE

ASIDE = STATE / "pull.json"
TRAILER = "Keypipe-Retraining"
"""Trailer of the commits that hold results; what they touch is keypipe's own."""

_WHO = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "keypipe"), ("EMAIL", "keypipe@localhost"))}  # fmt: skip


_BEHIND = ("(fetch first)", "(non-fast-forward)")
"""Why git does not push what others would lose commits by."""


class Pulled(msgspec.Struct, frozen=True):
    """What came of bringing a workspace up to date.

    Attributes:
        text: a sentence.
        commit: what the branch stands on now; "" outside git.
        files: what the new commits changed, relative to the workspace.
        raw: number of files of ``data/raw`` that came, changed or went.
        passed: title of the newest commit of results that the branch went forward over; their content is still there.
        remarks: what people are to know of the workspace as it is now, sentences.
    """

    text: str
    commit: str = ""
    files: tuple[str, ...] = ()
    raw: int = 0
    passed: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def code_changed(self) -> bool:
        """Whether a process that runs already has other code than the workspace now."""
        return any(name.startswith(CODE) for name in self.files)


class _Aside(msgspec.Struct):
    """What a pull has still to do.

    Attributes:
        base: commit that had the own files before.
        held: what own files held here, in base64; None where they were not there.
        raw: files of ``data/raw`` that others changed: md5 of the one here, and of the one that takes its place.
    """

    base: str
    held: dict[str, str | None]
    raw: dict[str, tuple[str | None, str | None]]


def own_files(root: Path) -> list[str]:
    """Return what keypipe writes and git keeps, relative to the workspace."""
    outputs = [output.path for outputs in all_outputs(root).values() for output in outputs if not output.cached]
    own = [LOCK.as_posix(), RAW_FILE.as_posix(), ACCEPTED.as_posix(), f"{RAW.parent.as_posix()}/.gitignore"]
    start = [NOTE.as_posix()] if starts_from_champion(root) else []
    return sorted({*own, *start, *outputs})


def find_upstream(root: Path) -> str:
    """Return the branch that the one checked out follows, such as ``origin/main``; "" where it follows none."""
    return (git.ask(root, "rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}") or "").strip()


def bring_up_to_date(root: Path, progress: Progress | None = None, *, wanted: bool = True) -> tuple[RawVersion, Pulled]:
    """Version what people have in ``data/raw``, so that nothing can lose it, and pull; the workspace must be held.

    Results that were committed and not pushed are committed anew on top of what came.

    Args:
        root: the workspace.
        progress: is told how far the versioning is.
        wanted: False: nothing is pulled.

    Returns:
        The raw data as they are now, and what was pulled.

    Raises:
        PoseError: see ``pull``, and ``version_raw``.
    """
    lay_back(root)
    if wanted:
        _bring_first(root)
    raw = version_raw(root, progress)
    if not wanted:
        return raw, Pulled("not asked to pull")
    pulled = pull(root)
    if notes := [name for name in list_versioned(root) if name in pulled.files]:
        checkout(root, *notes)  # what is to be had nowhere is refused where a training starts from it
    raw = version_raw(root, progress) if pulled.raw else raw
    if pulled.passed:
        anew = commit_results(root, pulled.passed, "Committed anew, on top of what others had pushed in the meantime.")
        pulled = msgspec.structs.replace(pulled, commit=anew or pulled.commit)
    return raw, pulled


def pull(root: Path, remote_seconds: float = GIT_SECONDS) -> Pulled:
    """Bring the workspace up to what others have pushed; the workspace must be held.

    Args:
        root: the workspace, whose raw data have just been versioned.
        remote_seconds: time that the remote may take.

    Raises:
        PoseError: the remote does not answer, the branch has other commits of its own, or a file was edited here and
            there; nothing has moved then.
    """
    if not git.is_repository(root):
        return Pulled("no git repository: nothing to pull")
    head = (git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD") or "").strip()
    upstream = find_upstream(root)
    if not upstream or not head:
        return Pulled("the branch follows no other: nothing to pull", head)
    branch = git.read(root, "symbolic-ref", "--short", "HEAD").strip()
    remote = (git.ask(root, "config", f"branch.{branch}.remote") or "origin").strip()
    if remote != ".":
        _ask_remote(root, remote_seconds, "fetch", "--quiet", remote)
    tip = git.read(root, "rev-parse", "@{upstream}").strip()
    if tip == head or _is_ancestor(root, tip, head):
        return Pulled(f"{upstream} has nothing new", head)
    base = git.read(root, "merge-base", head, tip).strip()
    _refuse_commits_of_people(root, base, head, upstream)
    changed = _changed_files(root, base, tip)
    theirs = _plan_raw(root, base, tip)
    passed = git.read(root, "log", "-1", "--format=%s", f"{base}..{head}").strip()
    _go_forward(root, base, tip, head, theirs)
    count = int(git.read(root, "rev-list", "--count", f"{base}..{tip}"))
    text = f"{count} commit{'s' if count > 1 else ''} of {upstream}"
    if theirs:
        text += f", {len(theirs)} files of {RAW}"
    return Pulled(text, tip, tuple(changed), len(theirs), passed)


def _ask_remote(root: Path, seconds: float, *arguments: str) -> None:
    """Let git talk with a remote, where nobody sits to type a password or to wait.

    Raises:
        PoseError: it refuses, or takes longer; git and the programs that it started are ended then.
    """
    env = {**os.environ, "LANGUAGE": "en", "GIT_TERMINAL_PROMPT": "0"}
    if not {"GIT_SSH_COMMAND", "GIT_SSH"} & env.keys() and git.ask(root, "config", "core.sshCommand") is None:
        env["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"
    said = run_limited(["git", "-C", str(root), *arguments], seconds, f"git {arguments[0]}", env=env)
    if said.code != 0:
        lines = said.err.decode("utf-8", "replace").strip().splitlines()
        told = [line for line in lines if not line.startswith("hint:")] or [f"exit code {said.code}"]
        if any(line.startswith(" ! [rejected]") and line.endswith(_BEHIND) for line in told):
            told = ["others have pushed in the meantime; the next run puts the results on top of that"]
        raise git.GitError(f"git {arguments[0]}: {told[-1]}")


def _bring_first(root: Path) -> None:
    """Bring the raw data of a fresh clone, which has their name alone."""
    md5 = raw_version(root)
    if md5 is not None and not (root / RAW).exists() and fetch_folder(root, md5):
        checkout(root, RAW_FILE.as_posix())


def _is_ancestor(root: Path, old: str, new: str) -> bool:
    return git.ask(root, "merge-base", "--is-ancestor", old, new) is not None


def _refuse_commits_of_people(root: Path, base: str, head: str, upstream: str) -> None:
    """Let the branch go forward over commits of results alone, whose content stays in the files."""
    people = _commits_of_people(root, f"{base}..{head}")
    if people:
        raise PoseError(
            f"git: the branch has commits that {upstream} lacks ({', '.join(people[:3])}), and {upstream} has others;"
            f" push them or rebase (`git pull --rebase`), then `keypipe retrain`"
        )


def _commits_of_people(root: Path, commits: str, *paths: str) -> list[str]:
    """Return the short names of the commits in a range, of those that touch the paths, that hold no results."""
    layout = f"--format=%h %(trailers:key={TRAILER},valueonly,separator=%x20)"
    lines = git.read(root, "log", layout, commits, "--", *paths).splitlines()
    return [line.split()[0] for line in lines if line and len(line.split()) < 2]


def _changed_files(root: Path, before: str, after: str) -> list[str]:
    text = git.read(root, "diff", "--name-only", "-z", "--relative", before, after)
    return [name for name in text.split("\0") if name]


# ------------------------------------------------------------------------------------------------ data/raw


def _plan_raw(root: Path, base: str, tip: str) -> dict[str, tuple[str | None, str | None]]:
    """Return what is to become of files of ``data/raw``: the md5 that each has and gets; None: no such file.

    Raises:
        PoseError: the new version's files are not to be had, or a file was changed here and there.
    """
    before, there, here = _raw_of(root, base), _raw_of(root, tip), raw_version(root)
    if there is None or there in (before, here):
        return {}
    if not fetch_folder(root, there):
        place = "DVC's remote has not all of it" if has_remote(root) else "DVC has no remote here to get it from"
        raise DatasetError(
            f"{RAW}: version {there[:8]} was pushed to git, and {place}; `dvc push` where it was made, and `dvc remote"
            " default` says which remote is taken"
        )
    if before:
        fetch_folder(root, before)
    lists = list_folders(root, [md5 for md5 in (before, here, there) if md5])
    listings = [lists.get(md5 or "", {}) for md5 in (before, here, there)]
    return {name: (listings[1].get(name), md5) for name, md5 in merge_listings(*listings).items()}


def _raw_of(root: Path, commit: str) -> str | None:
    text = git.ask(root, "show", f"{commit}:./{RAW_FILE.as_posix()}")
    return read_md5(text) if text else None


def merge_listings(
    before: Mapping[str, str], here: Mapping[str, str], there: Mapping[str, str]
) -> dict[str, str | None]:
    """Return what others changed and is to be done here.

    Args:
        before: md5 of every file of the version that both started from.
        here: the same of what people have here.
        there: the same of what others have made of it.

    Returns:
        The md5 that a file gets, None: it goes.

    Raises:
        DatasetError: a file was changed here and there, and not alike.
    """
    theirs = {name: there.get(name) for name in {*before, *there} if before.get(name) != there.get(name)}
    wanted = {name: md5 for name, md5 in theirs.items() if here.get(name) != md5}
    both = sorted(name for name in wanted if here.get(name) != before.get(name))
    if both:
        more = f" and {len(both) - 5} more" if len(both) > 5 else ""
        raise DatasetError(
            f"{RAW}: edited here and by others: {', '.join(both[:5])}{more}; nothing was pulled. Keep a copy of yours,"
            f" take theirs with `git pull && dvc checkout --force {RAW}`, and put back what is right"
        )
    return dict(sorted(wanted.items()))


def _put_raw(root: Path, name: str, before: str | None, md5: str | None) -> None:
    """Put a file of others in its place, unless somebody has edited the one here in the meantime."""
    path = root / RAW / name
    content = path.read_bytes() if path.is_file() else None
    now = None if content is None else hashlib.md5(content, usedforsecurity=False).hexdigest()
    if now != before:
        return
    if md5 is not None:
        copy_cached(root, md5, path)
        return
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == root / RAW or any(folder.iterdir()):
            break
        folder.rmdir()


# ---------------------------------------------------------------------------------- the branch goes forward


def _go_forward(root: Path, base: str, tip: str, head: str, raw: dict[str, tuple[str | None, str | None]]) -> None:
    """Let the branch go to ``tip`` with keypipe's own files laid aside meanwhile.

    Raises:
        PoseError: files of people stand in the way; everything is as it was then.
    """
    held = {name: _encode(_read(root, name)) for name in own_files(root)}
    with replacing_file(root / ASIDE) as temporary:
        temporary.write_bytes(msgspec.json.encode(_Aside(base, held, raw)))
    try:
        git.read(root, "reset", "--quiet", "--soft", base)
        for name in held:
            _put(root, name, _of_commit(root, base, name))
        git.read(root, "reset", "--quiet", "--", *held)
        git.read(root, "merge", "--quiet", "--ff-only", tip, env=_WHO)
    except git.GitError as error:
        git.read(root, "reset", "--quiet", "--soft", head)
        lay_back(root, as_it_was=True)
        git.read(root, "reset", "--quiet", "--", *held)
        raise PoseError(f"{error}; commit or put away what was edited, nothing was pulled") from error
    lay_back(root)


def lay_back(root: Path, *, as_it_was: bool = False) -> None:
    """Lay own files back that were laid aside, also by a process that died; without any, do nothing.

    What others have committed meanwhile comes in where the file is as it was here; lines of the manifest are joined;
    else the workspace's own stays, which is what its outputs follow from.

    Args:
        root: the workspace.
        as_it_was: do not look at what others have committed.
    """
    path = root / ASIDE
    if not path.exists():
        return
    aside = msgspec.json.decode(path.read_bytes(), type=_Aside)
    for name, text in aside.held.items():
        mine = None if text is None else base64.b64decode(text)
        base, theirs = _of_commit(root, aside.base, name), _of_commit(root, "HEAD", name)
        if as_it_was or theirs == base:
            _put(root, name, mine)
        elif mine == base:
            _put(root, name, theirs)
        elif name == MANIFEST.as_posix() and mine and theirs:
            joined = parse_manifest(f"{mine.decode()}{theirs.decode()}")
            _put(root, name, format_manifest(joined).encode())
        else:
            _put(root, name, mine)
    if not as_it_was:
        for name, (before, md5) in aside.raw.items():
            _put_raw(root, name, before, md5)
    path.unlink()


def _read(root: Path, name: str) -> bytes | None:
    return (root / name).read_bytes() if (root / name).is_file() else None


def _encode(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _of_commit(root: Path, commit: str, name: str) -> bytes | None:
    try:
        return git.read_bytes(root, "cat-file", "blob", f"{commit}:./{name}")
    except git.GitError:
        return None


def _put(root: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (root / name).unlink(missing_ok=True)
    elif content != _read(root, name):
        with replacing_file(root / name) as temporary:
            temporary.write_bytes(content)


# ---------------------------------------------------------------------------------------- results committed


def commit_results(root: Path, title: str, text: str = "", branch: str | None = None) -> str:
    """Commit what keypipe wrote, and nothing else: what people have edited or staged stays as it is.

    Another branch keeps what it has: the results go onto its own files, and what is checked out is merged into it where
    it lacks that.

    Args:
        root: the workspace.
        title: first line of the message.
        text: the rest of it.
        branch: where to; None: the branch that is checked out.

    Returns:
        The commit; "" where nothing had changed, or outside git.

    Raises:
        PoseError: git refuses, there are results and no branch is checked out or named, or git
            cannot merge what is checked out into the branch; nothing was committed then.
    """
    current = (git.ask(root, "symbolic-ref", "--short", "--quiet", "HEAD") or "").strip()
    head = (git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD") or "").strip()
    if not head:
        return ""
    target = branch or current
    if not target:
        if _tree_with_own(root, head) == git.read(root, "rev-parse", "HEAD^{tree}").strip():
            return ""
        raise PoseError(
            "no branch is checked out: `git switch BRANCH`, or name one as `retrain.branch`, and the next are committed"
        )
    there = (git.ask(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{target}") or "").strip()
    before = there or head
    if _is_ancestor(root, head, before):
        tree, parents = _tree_with_own(root, before), [before]
    else:
        tree, parents = _merged_tree(root, target, before, head), [before, head]
    _refuse_raw_of_people(root, target, before, head)
    if tree == git.read(root, "rev-parse", f"{before}^{{tree}}").strip():
        return ""
    message = f"{title}\n\n{text}\n\n{TRAILER}: {target}\n"
    options = [word for parent in parents for word in ("-p", parent)]
    commit = git.read(root, "commit-tree", tree, *options, "-F", "-", env=_WHO, stdin=message).strip()
    git.read(root, "update-ref", f"refs/heads/{target}", commit, there or "0" * len(commit))
    if target == current:
        names = [name for name in own_files(root) if _of_commit(root, "HEAD", name) is not None]
        git.read(root, "reset", "--quiet", "--", *names)
    return commit


def _merged_tree(root: Path, target: str, before: str, head: str) -> str:
    """Return the tree of a branch merged with what is checked out, with keypipe's own files as they are now.

    Raises:
        PoseError: both have edits of the same lines, or git is too old to merge what is not checked out.
    """
    if _is_ancestor(root, before, head):
        return _tree_with_own(root, head)
    sides = [  # own files alike on both sides are no conflict
        git.read(root, "commit-tree", _tree_with_own(root, side), "-p", side, "-m", "to merge", env=_WHO).strip()
        for side in (before, head)
    ]
    try:
        return git.read(root, "merge-tree", "--write-tree", "--no-messages", *sides).splitlines()[0]
    except git.GitError as error:
        by_itself = git.ask(root, "merge-tree", "--write-tree", head, head) is not None
        why = "their edits conflict" if by_itself else "git is older than 2.38, which merges by itself"
        raise PoseError(
            f"{target}: lacks commits of what is checked out, and git cannot merge them: {why}; `git merge {target}`"
            " here, or the other way round, and the next results are committed"
        ) from error


def _refuse_raw_of_people(root: Path, target: str, before: str, head: str) -> None:
    """Refuse to put the name of the raw data here, or the decisions here, over others that people have committed."""
    for name in (RAW_FILE.as_posix(), ACCEPTED.as_posix()):
        people = _commits_of_people(root, f"{head}..{before}", name)
        if people and _of_commit(root, before, name) != _read(root, name):
            raise PoseError(
                f"{target}: people have changed {name} there ({', '.join(people[:3])}), and it is another here;"
                f" `git merge {target}` here, and the next results are committed"
            )


def _tree_with_own(root: Path, commit: str) -> str:
    """Return git's name of the tree of a commit with keypipe's own files as they are now."""
    with tempfile.TemporaryDirectory(prefix="keypipe-index-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git.read(root, "read-tree", commit, env=env)
        names = own_files(root)
        there = [name for name in names if (root / name).is_file()]
        gone = [name for name in names if name not in there]
        if gone:
            git.read(root, "rm", "--cached", "-r", "-q", "--ignore-unmatch", "--", *gone, env=env)
        git.read(root, "add", "--force", "--", *there, env=env)
        return git.read(root, "write-tree", env=env).strip()


def find_unpushed(root: Path, branch: str | None = None) -> int:
    """Return how many commits of results wait to be pushed; 0 where commits of people wait as well, which they push."""
    current = (git.ask(root, "symbolic-ref", "--short", "--quiet", "HEAD") or "").strip()
    remote = (git.ask(root, "config", f"branch.{current}.remote") or "").strip()
    target = branch or current
    upstream = find_upstream(root) if target == current else f"{remote}/{target}"
    known = git.ask(root, "rev-parse", "--verify", "--quiet", f"refs/remotes/{upstream}") if upstream else None
    if not remote or remote == "." or known is None:
        return 0
    commits = f"{known.strip()}..refs/heads/{target}"
    if git.ask(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{target}") is None:
        return 0
    return 0 if _commits_of_people(root, commits) else int(git.read(root, "rev-list", "--count", commits))


def push_late(root: Path, branch: str | None = None) -> str:
    """Push results that a run before could not; returns what is still wrong, "" where nothing is.

    Raises:
        BusyError: another DVC command is at work.
    """
    waiting = find_unpushed(root, branch)
    if not waiting:
        return ""
    try:
        push(root, branch)
    except BusyError:
        raise
    except PoseError as error:
        return f"{waiting} commit{'s' if waiting > 1 else ''} of results could not be pushed: {error}"
    return ""


def tell_uncommitted(root: Path) -> str:
    """Return that the parameters have edits which are not committed; "" where they have none."""
    if (git.ask(root, "diff", "--name-only", "HEAD", "--", PARAMS_FILE) or "").strip():
        return f"{PARAMS_FILE} has edits that are not committed: others do not see what the results were made with"
    return ""


def push(root: Path, branch: str | None = None, remote_seconds: float = GIT_SECONDS) -> str:
    """Push results: their data to DVC's remote first, then the branch to git's; says what was done.

    Raises:
        PoseError: a remote does not take it.
    """
    current = (git.ask(root, "symbolic-ref", "--short", "--quiet", "HEAD") or "").strip()
    target = branch or current
    remote = (git.ask(root, "config", f"branch.{current}.remote") or "").strip()
    if not remote or remote == ".":
        return "the branch follows none on a remote: nothing was pushed"
    data = has_remote(root)
    if data:
        push_data(root)
    upstream = (git.ask(root, "config", f"branch.{current}.merge") or "").strip()
    place = upstream if target == current and upstream else f"refs/heads/{target}"
    _ask_remote(root, remote_seconds, "push", "--quiet", remote, f"refs/heads/{target}:{place}")
    return f"pushed {target} to {remote}" + (", its data to DVC's remote" if data else "")
