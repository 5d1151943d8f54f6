"""What the page shows where a worker may do no more than its role does, and what it shows once it may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streams.page.pictures import Pictures
from streams.settings import Switch, load
from streams.transport.acls import Acls, principals
from tests.broker.harness import wait_for
from tests.broker.secured import Deployment, SecuredKafka
from topology.acls import Role

pytestmark = pytest.mark.system


@contextmanager
def pictures_of(deployment: Deployment) -> Iterator[Pictures]:
    """Return what takes pictures with the worker's login, which only its process's environment has."""
    with pytest.MonkeyPatch.context() as process:
        for name, value in deployment.environment(Role.WORKER).items():
            process.setenv(name, value)
        pictures = Pictures(load(web_page=Switch.ON))
        yield pictures
        pictures.close()


def test_worker_s_own_rights_show_its_own_group(secured: SecuredKafka) -> None:
    """The page says what would show the others; with the role operator on top it shows all, and dead letters."""
    deployment = Deployment(secured, "looks")
    deployment.create_topics()
    with pictures_of(deployment) as pictures:
        picture = pictures.take()
        assert ["looks-worker"] == [group["group"] for group in picture["groups"]]
        assert "rejoinder acls apply --role operator" in picture["note"]
        assert 7 == len(picture["topics"])

    admin = deployment.admin_settings
    acls, both = Acls(admin), {Role.OPERATOR: principals(admin, {})[Role.WORKER]}
    acls.apply(change for change in acls.differences(both) if not change.extra)
    wait_for(lambda: all(change.extra for change in acls.differences(both)), "the ACLs are set")

    with pictures_of(deployment) as pictures:
        picture = pictures.take()
        assert ["looks-email", "looks-orders", "looks-worker"] == sorted(one["group"] for one in picture["groups"])
        assert picture["note"] is None
        letters = wait_for(lambda: (found := pictures.take()["dead_letters"])["at_ms"] and found, "a count of them")
        assert ({}, False) == (letters["by_reason"], letters["more"])
