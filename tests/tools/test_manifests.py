"""The generator of k8s/'s parts: what it takes from topology/, and that a stale file is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import manifests
from topology.acls import Role, grants
from topology.topics import PARTITIONS, TOPICS


def test_committed_files_are_what_is_declared() -> None:
    """As `./dev lint` looks."""
    manifests.main(["--check"])


def test_stale_file_is_noticed_and_written_anew(tmp_path: Path) -> None:
    """With what to run; --check itself writes nothing."""
    with pytest.raises(SystemExit, match=r"topics\.yaml.*run `\./dev manifests`"):
        manifests.main(["--check"], tmp_path)
    assert [] == list(tmp_path.iterdir())
    manifests.main([], tmp_path)
    manifests.main(["--check"], tmp_path)
    topics = tmp_path / "components" / "strimzi" / "topics.yaml"
    topics.write_text(topics.read_text().replace(f"partitions: {PARTITIONS}", f"partitions: {PARTITIONS + 1}", 1))
    with pytest.raises(SystemExit, match=r"k8s/: components/strimzi/topics\.yaml: "):
        manifests.main(["--check"], tmp_path)


def test_topics_have_their_declared_configuration() -> None:
    """All of it, and enough replicas in sync."""
    for made, topic in zip(manifests.topics(), TOPICS, strict=True):
        assert topic.name == made["metadata"]["name"]
        assert topic.config.items() <= made["spec"]["config"].items()
        assert PARTITIONS == made["spec"]["partitions"]


@pytest.mark.parametrize("role", Role)
def test_users_have_their_grants_and_nothing_beyond(role: Role) -> None:
    """Each operation on each resource."""
    user = next(one for one in manifests.users() if one["metadata"]["name"] == f"rejoinder-{role.value}")
    given = {
        (
            acl["resource"]["type"].lower(),
            acl["resource"]["name"],
            acl["resource"]["patternType"] == "prefix",
            operation,
        )
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    }
    assert {
        (grant.resource.value.lower(), grant.name, grant.prefixed, grant.operation.value)
        for grant in grants(role, "rejoinder")
    } == given
