"""Pulls and commits with real remotes of git and DVC: what people edit is never lost, and results never block."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from keypipe.errors import DatasetError, PoseError
from tasks.retraining import upstream
from tasks.retraining.upstream import ASIDE, bring_up_to_date, commit_results, merge_listings, own_files, pull
from tasks.versions.raw import raw_version, version_raw
from tasks.versions.store import checkout, fetch_folder, push_data
from tasks.versions.weights import version_weights
from tests.faults.test_clones import check_cache
from tests.faults.test_machines import ON_BARN, need_namespaces
from tests.flows.toy import REPOSITORY, dvc, make_workspace
from tests.patience import PATIENCE
from tests.workspace import environment, git

HEADER = "image,md5,side,group,phash,fold,state\n"
MANIFEST = "data/dataset/manifest.csv"


class Pair:
    """The workspace, and a colleague's clone; both follow a bare repository and share a DVC remote."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "here"
        self.there = folder / "there"

    def colleague(self, message: str = "a colleague's") -> None:
        """Version and push what the colleague has."""
        version_raw(self.there)
        push_data(self.there)
        git(self.there, "add", "--all")
        git(self.there, "commit", "--quiet", "--message", message)
        git(self.there, "push", "--quiet")

    def raw(self, name: str) -> str | None:
        path = self.root / "data/raw" / name
        return path.read_text() if path.exists() else None

    def head(self) -> str:
        return git(self.root, "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of both, with addresses that hold in a copy as well."""
    folder = tmp_path_factory.mktemp("upstream")
    root = make_workspace(folder / "here")
    dvc(root, "remote", "add", "-d", "store", "../store")
    version_raw(root)
    (root / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
    (root / MANIFEST).write_text(f"{HEADER}raw/0.png,aa,train,,,,used\n")
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "begun")
    git(folder, "init", "--quiet", "--bare", "-b", "main", "hub.git")
    git(root, "remote", "add", "origin", "../hub.git")
    git(root, "push", "--quiet", "--set-upstream", "origin", "main")
    push_data(root)
    git(folder, "clone", "--quiet", "hub.git", "there")
    git(folder / "there", "remote", "set-url", "origin", "../hub.git")
    fetch_folder(folder / "there", str(raw_version(root)))
    assert checkout(folder / "there", "data/raw.dvc") == []
    return folder


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> Pair:
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Pair(tmp_path)


def edit(root: Path, name: str, text: str) -> None:
    (root / "data/raw" / name).write_text(text)


def test_files_that_others_changed_come_and_those_edited_here_stay(pair: Pair) -> None:
    edit(pair.there, "new.json", "from there")
    edit(pair.there, "0.json", "relabelled there")
    (pair.there / "data/raw/2.json").unlink()
    (pair.there / "params.yaml").write_text((pair.there / "params.yaml").read_text().replace("seed: 42", "seed: 7"))
    pair.colleague()
    edit(pair.root, "1.json", "edited here")
    edit(pair.root, "mine.json", "new here")
    raw, pulled = bring_up_to_date(pair.root)
    assert (pair.raw("new.json"), pair.raw("0.json"), pair.raw("2.json")) == ("from there", "relabelled there", None)
    assert (pair.raw("1.json"), pair.raw("mine.json")) == ("edited here", "new here")
    assert "seed: 7" in (pair.root / "params.yaml").read_text()
    assert pulled.text == "1 commit of origin/main, 3 files of data/raw"
    assert set(pulled.files) == {"data/raw.dvc", "params.yaml"}
    assert not pulled.code_changed
    assert raw.md5 == raw_version(pair.root) == version_raw(pair.root).md5
    assert os.access(pair.root / "data/raw/new.json", os.W_OK)
    assert not (pair.root / ASIDE).exists()


def test_weights_that_others_put_into_their_place_come(pair: Pair) -> None:
    place = Path("data/weights/x.pt")
    (pair.there / place).parent.mkdir()
    for content in (b"weights", b"others by the same name"):
        (pair.there / place).write_bytes(content)
        version_weights(pair.there, pair.there / place)
        pair.colleague()
        bring_up_to_date(pair.root)
        assert (pair.root / place).read_bytes() == content


def test_a_file_edited_here_and_there_stops_before_anything_moved(pair: Pair) -> None:
    edit(pair.there, "0.json", "there")
    edit(pair.there, "new.json", "from there")
    pair.colleague()
    edit(pair.root, "0.json", "here")
    head = pair.head()
    with pytest.raises(DatasetError, match=r"edited here and by others: 0\.json; nothing was pulled"):
        bring_up_to_date(pair.root)
    assert (pair.head(), pair.raw("0.json"), pair.raw("new.json")) == (head, "here", None)
    edit(pair.root, "0.json", "there")  # the same edit on both sides is none
    bring_up_to_date(pair.root)
    assert pair.raw("new.json") == "from there"


def test_results_never_stand_in_the_way_and_are_laid_back(pair: Pair) -> None:
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: here}}\n")
    (pair.root / MANIFEST).write_text(f"{HEADER}raw/0.png,aa,train,,,,used\nraw/9.png,ff,test,,,,used\n")
    (pair.root / "metrics").mkdir(exist_ok=True)
    (pair.root / "metrics/validate.json").write_text("{}")
    (pair.there / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: there}}\n")
    (pair.there / MANIFEST).write_text(f"{HEADER}raw/0.png,aa,train,,,,used\nraw/5.png,bb,val,,,,used\n")
    pair.colleague()
    pull(pair.root)
    assert "cmd: here" in (pair.root / "dvc.lock").read_text()  # what the outputs here follow from
    lines = (pair.root / MANIFEST).read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["raw/0.png", "raw/5.png", "raw/9.png"]
    assert (pair.root / "metrics/validate.json").read_text() == "{}"


def test_results_are_committed_alone_and_commits_of_results_are_passed_over(pair: Pair) -> None:
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: night 1}}\n")
    (pair.root / "params.yaml").write_text((pair.root / "params.yaml").read_text() + "# half-done\n")
    (pair.root / "notes.txt").write_text("mine")
    git(pair.root, "add", "notes.txt")
    commit = commit_results(pair.root, "Retraining: v1 is in use", "every rule is kept")
    assert pair.head() == commit
    assert git(pair.root, "show", "--format=", "--name-only", commit).split() == ["dvc.lock"]
    assert git(pair.root, "status", "--porcelain").splitlines() == ["A  notes.txt", " M params.yaml"]
    assert "keypipe <keypipe@localhost>" in git(pair.root, "log", "-1")
    assert commit_results(pair.root, "again") == ""
    git(pair.root, "checkout", "--", "params.yaml")
    git(pair.root, "rm", "--quiet", "--cached", "notes.txt")

    (pair.there / "params.yaml").write_text((pair.there / "params.yaml").read_text() + "# theirs\n")
    pair.colleague()
    pulled = pull(pair.root)
    assert pair.head() == pulled.commit == git(pair.there, "rev-parse", "HEAD").strip()
    assert pulled.passed == "Retraining: v1 is in use"
    assert "night 1" in (pair.root / "dvc.lock").read_text()
    assert "# theirs" in (pair.root / "params.yaml").read_text()


def test_results_that_could_not_be_pushed_are_committed_anew_on_top_of_what_others_pushed(pair: Pair) -> None:
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: night 1}}\n")
    assert commit_results(pair.root, "Retraining: v1 is in use", "every rule is kept")
    (pair.there / "params.yaml").write_text((pair.there / "params.yaml").read_text() + "# theirs\n")
    pair.colleague()
    with pytest.raises(PoseError, match=r"^git push: others have pushed in the meantime"):
        upstream.push(pair.root)
    _, pulled = bring_up_to_date(pair.root)
    assert pair.head() == pulled.commit
    assert git(pair.root, "log", "--format=%s", "-2").splitlines()[0] == "Retraining: v1 is in use"
    assert git(pair.root, "rev-parse", "HEAD^") == git(pair.there, "rev-parse", "HEAD")
    assert git(pair.root, "show", "--format=", "--name-only", "HEAD").split() == ["dvc.lock"]
    assert upstream.find_unpushed(pair.root) == 1
    assert upstream.push_late(pair.root) == ""
    assert git(pair.root, "rev-parse", "origin/main") == git(pair.root, "rev-parse", "HEAD")


def test_results_on_a_branch_of_their_own_leave_the_users_alone(pair: Pair) -> None:
    head = pair.head()
    for night in (1, 2):
        (pair.root / "dvc.lock").write_text(f"schema: '2.0'\nstages: {{convert: {{cmd: night {night}}}}}\n")
        commit = commit_results(pair.root, f"night {night}", branch="keypipe/nights")
        assert git(pair.root, "rev-parse", "keypipe/nights").strip() == commit
        assert f"night {night}" in git(pair.root, "show", "keypipe/nights:dvc.lock")
    assert pair.head() == head
    assert git(pair.root, "rev-list", "--count", "main..keypipe/nights").strip() == "2"
    said = upstream.push(pair.root, "keypipe/nights")
    assert said == "pushed keypipe/nights to origin, its data to DVC's remote"
    assert git(pair.root, "ls-remote", "origin", "keypipe/nights").startswith(commit)


def commit_to(root: Path, branch: str, **files: str) -> None:
    """Let a person commit files, with ``_`` for the dot of their names, to a branch that is not checked out."""
    git(root, "worktree", "add", "--quiet", "../beside", branch)
    for name, text in files.items():
        path = root.parent / "beside" / name.replace("__", "/").replace("_", ".")
        path.write_text(text)
    git(root.parent / "beside", "add", "--all", "--force")
    git(root.parent / "beside", "commit", "--quiet", "--message", "a person's")
    git(root, "worktree", "remove", "--force", "../beside")


def results_of(root: Path, night: int) -> str:
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages: {{convert: {{cmd: night {night}}}}}\n")
    return commit_results(root, f"night {night}", branch="develop")


def test_results_go_onto_what_another_branch_has(pair: Pair) -> None:
    git(pair.root, "branch", "develop")
    commit_to(pair.root, "develop", people_txt="theirs", params_yaml="edited: there\n")
    commit = results_of(pair.root, 1)
    assert git(pair.root, "show", "--format=", "--name-only", commit).split() == ["dvc.lock"]
    assert git(pair.root, "show", "develop:params.yaml") == "edited: there\n"

    (pair.root / "mine.txt").write_text("mine")  # from here on, each has what the other lacks
    git(pair.root, "add", "mine.txt")
    git(pair.root, "commit", "--quiet", "--message", "mine", "mine.txt")
    for night in (2, 3):
        results_of(pair.root, night)
        assert git(pair.root, "diff", "--name-status", commit, "develop").split() == ["M", "dvc.lock", "A", "mine.txt"]
        assert f"night {night}" in git(pair.root, "show", "develop:dvc.lock")
    assert git(pair.root, "rev-list", "--count", "--merges", "develop").strip() == "1"


def test_a_branch_that_is_behind_comes_up_with_the_results(pair: Pair) -> None:
    git(pair.root, "branch", "develop")
    (pair.root / "mine.txt").write_text("mine")
    git(pair.root, "add", "mine.txt")
    git(pair.root, "commit", "--quiet", "--message", "mine", "mine.txt")
    results_of(pair.root, 1)
    assert git(pair.root, "diff", "--name-only", "HEAD", "develop").split() == ["dvc.lock"]


@pytest.mark.parametrize("old", [False, True])
def test_what_cannot_be_merged_is_refused(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    git(pair.root, "branch", "develop")
    commit_to(pair.root, "develop", people_txt="theirs\n")
    develop = git(pair.root, "rev-parse", "develop")
    name = "mine.txt" if old else "people.txt"
    (pair.root / name).write_text("mine\n")
    git(pair.root, "add", name)
    git(pair.root, "commit", "--quiet", "--message", "mine", name)
    if old:  # a git that does not know the option
        program = tmp_path / "bin" / "git"
        program.parent.mkdir()
        program.write_text(
            '#!/bin/sh\ncase "$*" in *--write-tree*) echo usage >&2; exit 129;; esac\n'
            f'exec {shutil.which("git")} "$@"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(PoseError, match=r"git is older than 2\.38" if old else "their edits conflict"):
        results_of(pair.root, 1)
    assert git(pair.root, "rev-parse", "develop") == develop


def test_raw_data_that_people_have_put_on_the_branch_are_not_taken_back(pair: Pair) -> None:
    git(pair.root, "branch", "develop")
    commit_to(pair.root, "develop", data__raw_dvc="outs: another\n")
    develop = git(pair.root, "rev-parse", "develop")
    with pytest.raises(
        PoseError, match=r"develop: people have changed data/raw\.dvc there \(\w+\), .*`git merge develop`"
    ):
        results_of(pair.root, 1)
    assert git(pair.root, "rev-parse", "develop") == develop


def test_results_without_a_branch_are_said_or_go_to_the_one_that_is_named(pair: Pair) -> None:
    git(pair.root, "checkout", "--quiet", "--detach")
    assert commit_results(pair.root, "nothing new") == ""
    head = pair.head()
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: night 1}}\n")
    with pytest.raises(PoseError, match="no branch is checked out: `git switch BRANCH`"):
        commit_results(pair.root, "night 1")
    commit = results_of(pair.root, 2)
    assert (git(pair.root, "rev-parse", "develop").strip(), pair.head()) == (commit, head)


def test_commits_of_people_that_were_not_pushed_are_not_passed_over(pair: Pair) -> None:
    (pair.there / "params.yaml").write_text((pair.there / "params.yaml").read_text() + "# theirs\n")
    pair.colleague()
    (pair.root / "README.txt").write_text("mine")
    git(pair.root, "add", "README.txt")
    git(pair.root, "commit", "--quiet", "--message", "mine")
    head = pair.head()
    with pytest.raises(
        PoseError, match=r"commits that origin/main lacks \(\w+\), and origin/main has others; push them"
    ):
        pull(pair.root)
    assert pair.head() == head


def test_a_file_that_a_person_edits_stops_the_pull_and_everything_is_as_it_was(pair: Pair) -> None:
    (pair.there / "params.yaml").write_text((pair.there / "params.yaml").read_text() + "# theirs\n")
    pair.colleague()
    (pair.root / "params.yaml").write_text((pair.root / "params.yaml").read_text() + "# mine\n")
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: here}}\n")
    before = git(pair.root, "status", "--porcelain")
    with pytest.raises(PoseError, match="nothing was pulled"):
        pull(pair.root)
    assert git(pair.root, "status", "--porcelain") == before
    assert "# mine" in (pair.root / "params.yaml").read_text()
    assert "cmd: here" in (pair.root / "dvc.lock").read_text()


def test_a_pull_that_was_killed_is_finished_by_the_next(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(pair.there, "new.json", "from there")
    edit(pair.there, "0.json", "relabelled there")
    pair.colleague()
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: here}}\n")
    with monkeypatch.context() as patch:
        patch.setattr(upstream, "lay_back", lambda *_args, **_more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pull(pair.root)
    assert pair.raw("new.json") is None  # git has gone forward, and the files have not come yet
    raw, _ = bring_up_to_date(pair.root)
    assert (pair.raw("new.json"), pair.raw("0.json")) == ("from there", "relabelled there")
    assert "cmd: here" in (pair.root / "dvc.lock").read_text()
    assert raw.md5 in git(pair.root, "show", "origin/main:data/raw.dvc")


def test_data_that_were_not_pushed_stop_the_pull(pair: Pair, tmp_path: Path) -> None:
    edit(pair.there, "new.json", "from there")
    version_raw(pair.there)
    git(pair.there, "commit", "--quiet", "--all", "--message", "without dvc push")
    git(pair.there, "push", "--quiet")
    head = pair.head()
    with pytest.raises(DatasetError, match=r"was pushed to git, and DVC's remote has not all of it; `dvc push` where"):
        bring_up_to_date(pair.root)
    assert pair.head() == head
    (tmp_path / "hub.git").rename(tmp_path / "gone.git")
    with pytest.raises(PoseError, match="git fetch"):
        bring_up_to_date(pair.root)


def test_a_remote_that_never_answers_is_given_up(pair: Pair) -> None:
    head = pair.head()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections into its backlog and says nothing
        git(pair.root, "remote", "set-url", "origin", f"git://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(PoseError, match=r"git fetch: the remote has not answered or ended in 0\.5 s"):
            pull(pair.root, remote_seconds=0.5)
        with pytest.raises(PoseError, match="git push: the remote has not answered"):
            upstream.push(pair.root, remote_seconds=0.5)
    assert pair.head() == head


def test_a_remote_of_dvc_that_never_answers_is_given_up(pair: Pair) -> None:
    edit(pair.root, "new.json", "from here")
    version_raw(pair.root)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dvc(pair.root, "remote", "add", "--local", "-d", "silent", f"http://127.0.0.1:{silent.getsockname()[1]}/store")
        with pytest.raises(DatasetError, match="dvc push: the remote has not answered or ended in 20 s"):
            push_data(pair.root, 20)
    dvc(pair.root, "remote", "default", "--local", "store")
    push_data(pair.root)  # no lock is left
    dvc(pair.root, "remote", "modify", "--local", "store", "url", "/proc/no-such-place")
    edit(pair.root, "new.json", "another")
    version_raw(pair.root)
    with pytest.raises(DatasetError, match="DVC's remote: "):
        push_data(pair.root)


def test_results_that_could_not_be_pushed_are_pushed_by_the_next_run(pair: Pair, tmp_path: Path) -> None:
    assert upstream.push_late(pair.root) == ""
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: tonight}}\n")
    assert commit_results(pair.root, "v2 is in use")
    assert upstream.find_unpushed(pair.root) == 1
    (tmp_path / "hub.git").rename(tmp_path / "away.git")
    assert upstream.push_late(pair.root).startswith("1 commit of results could not be pushed: git push: ")
    (tmp_path / "away.git").rename(tmp_path / "hub.git")
    assert upstream.push_late(pair.root) == ""
    assert git(tmp_path / "hub.git", "rev-parse", "main").strip() == pair.head()
    assert upstream.find_unpushed(pair.root) == 0


def test_results_of_a_branch_of_their_own_are_pushed_later_as_well(pair: Pair, tmp_path: Path) -> None:
    for cmd in ("tonight", "tomorrow"):
        (pair.root / "dvc.lock").write_text(f"schema: '2.0'\nstages: {{convert: {{cmd: {cmd}}}}}\n")
        commit_results(pair.root, cmd, branch="results")
        if cmd == "tonight":
            upstream.push(pair.root, "results")
    assert upstream.find_unpushed(pair.root, "results") == 1
    assert upstream.push_late(pair.root, "results") == ""
    assert upstream.find_unpushed(pair.root, "results") == 0


def test_commits_of_people_are_left_to_them(pair: Pair, tmp_path: Path) -> None:
    before = git(tmp_path / "hub.git", "rev-parse", "main")
    (pair.root / "README.txt").write_text("mine")
    git(pair.root, "add", "README.txt")
    git(pair.root, "commit", "--quiet", "--message", "mine")
    (pair.root / "dvc.lock").write_text("schema: '2.0'\nstages: {convert: {cmd: tonight}}\n")
    assert commit_results(pair.root, "v2 is in use")
    assert upstream.find_unpushed(pair.root) == 0
    assert upstream.push_late(pair.root) == ""
    assert git(tmp_path / "hub.git", "rev-parse", "main") == before


def test_parameters_that_are_not_committed_are_told(pair: Pair) -> None:
    assert upstream.tell_uncommitted(pair.root) == ""
    (pair.root / "params.yaml").write_text((pair.root / "params.yaml").read_text() + "# mine\n")
    assert upstream.tell_uncommitted(pair.root).startswith("params.yaml has edits that are not committed")
    git(pair.root, "add", "params.yaml")
    assert upstream.tell_uncommitted(pair.root).startswith("params.yaml has edits that are not committed")
    git(pair.root, "commit", "--quiet", "--message", "mine")
    assert upstream.tell_uncommitted(pair.root) == ""


def test_ssh_asks_nobody_and_the_users_own_command_stays(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "ssh was given: $*" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    git(pair.root, "remote", "set-url", "origin", "ssh://127.0.0.1/hub.git")
    with pytest.raises(PoseError, match="git fetch"):
        pull(pair.root)
    assert "BatchMode=yes" in (tmp_path / "trace").read_text()
    (tmp_path / "trace").unlink()
    git(pair.root, "config", "core.sshCommand", "ssh -v")
    with pytest.raises(PoseError, match="git fetch"):
        pull(pair.root)
    assert "BatchMode=yes" not in (tmp_path / "trace").read_text()


def test_without_a_remote_nothing_is_pulled(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "alone")
    assert "follows no other" in pull(root).text
    assert upstream.push(root) == "the branch follows none on a remote: nothing was pushed"
    raw, pulled = bring_up_to_date(root, wanted=False)
    assert (raw.files, pulled.text) == (4, "not asked to pull")


def test_a_fresh_clone_gets_its_data(pair: Pair) -> None:
    md5 = raw_version(pair.root)
    shutil.rmtree(pair.root / "data/raw")
    with pytest.raises(DatasetError, match="data/raw: not there"):
        bring_up_to_date(pair.root, wanted=False)
    raw, _ = bring_up_to_date(pair.root)
    assert (raw.md5, raw.files) == (md5, 4)


def test_what_keypipe_writes_is_known(pair: Pair) -> None:
    assert {"dvc.lock", "data/raw.dvc", MANIFEST, "metrics/validate.json", "accepted.yaml"} <= set(own_files(pair.root))


def test_listings_are_merged_file_by_file() -> None:
    before = {"a": "1", "b": "1", "c": "1", "d": "1"}
    here = {"a": "1", "b": "2", "c": "1", "e": "5"}
    there = {"a": "9", "b": "1", "d": "1", "e": "5", "f": "6"}
    assert merge_listings(before, here, there) == {"a": "9", "c": None, "f": "6"}
    with pytest.raises(DatasetError, match="edited here and by others: b;"):
        merge_listings(before, here, there | {"b": "3"})
    with pytest.raises(DatasetError, match="edited here and by others: d;"):
        merge_listings(before, here, there | {"d": "2"})


PUSHES = """\
import sys
from pathlib import Path
from tasks.versions.raw import version_raw
from tasks.versions.store import push_data
root = Path(sys.argv[1])
version_raw(root)
print("pushes", flush=True)
push_data(root)
"""


@pytest.mark.faults
def test_two_machines_push_to_one_remote_at_once_of_which_one_dies(pair: Pair) -> None:
    need_namespaces()
    for number in range(60):  # some that both have, some that one of them has
        for root, name in ((pair.root, "here"), (pair.there, "barn")):
            edit(root, f"{number}.txt", f"both {number}" * 5_000)
            edit(root, f"{name}{number}.txt", f"{name} {number}" * 5_000)
    command = [sys.executable, "-c", PUSHES]
    pushing = [
        subprocess.Popen(
            [*within, *command, str(root)], cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, text=True
        )
        for within, root in (((), pair.root), (ON_BARN, pair.there))
    ]
    for process in pushing:
        assert process.stdout is not None
        assert process.stdout.readline() == "pushes\n"
    pushing[1].kill()  # and all of that machine with it
    for process in pushing:
        process.communicate(timeout=PATIENCE)
    assert pushing[0].returncode == 0
    check_cache(pair.root.parent / "store", killed=True)
    pair.colleague()  # the machine is back, and does it once more
    bring_up_to_date(pair.root)
    assert pair.raw("barn59.txt") == "barn 59" * 5_000
    assert pair.raw("here59.txt") == "here 59" * 5_000
    assert check_cache(pair.root.parent / "store") >= 180
