"""Each role's ACLs on the real authorizer: what is granted works, and all else is refused."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from streams.transport.acls import Acls, principals
from tests.broker.harness import PARTITIONS, wait_for
from tests.broker.secured import Deployment, SecuredKafka, rejoinder, run_here, settings_of
from topology.acls import SERVICES, Operation, Resource, Role, allows, grants
from topology.topics import COMMANDS, TOPICS

Facts = dict[tuple[str, str, str], bool]
"""By resource, name and operation whether the brokers let it pass."""

pytestmark = pytest.mark.system

FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)  # fmt: skip
CALL_S: Final = 20.0


@pytest.fixture(scope="module")
def deployment(secured: SecuredKafka) -> Deployment:
    """Return a deployment with topics, and nobody at work on them."""
    deployment = Deployment(secured, "rights")
    deployment.create_topics()
    return deployment


def _passes(ask: Callable[[], Any], *, unless: Iterable[int] = ()) -> bool:
    """Return whether *ask* isn't refused; errors *unless* come only to those who may."""
    try:
        ask()
    except KafkaException as exc:
        if exc.args[0].code() in FORBIDDEN:
            return False
        if exc.args[0].code() in unless:
            return True
        raise
    return True


def _result(future: Any) -> Callable[[], Any]:
    return lambda: future.result(CALL_S)


class Prober:
    """Tries everything as one user; what would change something only so far that the brokers must decide on it."""

    def __init__(self, deployment: Deployment, role: Role) -> None:
        self._login: dict[str, Any] = {**deployment.secured.login(deployment.user(role))}
        self._admin = AdminClient(self._login)
        self._topics = [deployment.admin_settings.topic(topic.name) for topic in TOPICS]
        self._app = deployment.name

    def topics(self) -> Facts:
        """Try all operations on all topics."""
        found: Facts = {}

        def take(operation: str, name: str, passes: bool) -> None:
            found["Topic", name, operation] = found.get(("Topic", name, operation), False) or passes

        self._administer(take)
        # Of a topic that one mayn't look at no client asks for records; and whoever may read one may look at it.
        seen = [name for name in self._topics if found["Topic", name, "Describe"]]
        for name, passes in (dict.fromkeys(self._topics, False) | self._reads(seen)).items():
            take("Read", name, passes)
        for name, passes in self._writes().items():
            take("Write", name, passes)
        return found

    def _administer(self, take: Callable[[str, str, bool], None]) -> None:
        names, admin = self._topics, self._admin
        described = {name: admin.describe_topics(TopicCollection([name])) for name in names}
        for name, futures in described.items():
            take("Describe", name, _passes(_result(futures[name])))
        resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in names}
        for resource, future in admin.describe_configs(list(resources.values())).items():
            take("DescribeConfigs", resource.name, _passes(_result(future)))
        entry = ConfigEntry("retention.ms", "86400001", incremental_operation=AlterConfigOpType.SET)
        altered = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in names]
        for resource, future in admin.incremental_alter_configs(altered, validate_only=True).items():
            take("AlterConfigs", resource.name, _passes(_result(future)))
        for name, future in admin.create_topics([NewTopic(name, 1, 1) for name in names], validate_only=True).items():
            take("Create", name, _passes(_result(future), unless=[KafkaError.TOPIC_ALREADY_EXISTS]))
        more = [NewPartitions(name, PARTITIONS + 1) for name in names]
        for name, future in admin.create_partitions(more, validate_only=True).items():
            take("Alter", name, _passes(_result(future)))
        firsts = [TopicPartition(name, 0, 0) for name in names]
        for partition, future in admin.delete_records(firsts).items():
            take("Delete", partition.topic, _passes(_result(future)))
        # Nobody may: the topics stay.
        for name, future in admin.delete_topics(names).items():
            take("Delete", name, _passes(_result(future)))

    def _writes(self) -> dict[str, bool]:
        producer = Producer(self._login | {"enable.idempotence": "false"})
        found: dict[str, bool] = {}

        def delivered(error: KafkaError | None, message: Any) -> None:
            assert error is None or error.code() in FORBIDDEN, error
            found[message.topic()] = error is None

        for name in self._topics:
            # With a key: compacted topics take no others.
            producer.produce(name, b"x", b"key", 0, on_delivery=delivered)
        assert producer.flush(CALL_S) == 0
        return found

    def _reads(self, names: list[str]) -> dict[str, bool]:
        consumer = Consumer(
            self._login
            | {"group.id": f"{self._app}-nobody", "enable.auto.commit": "false", "enable.partition.eof": "true"}
        )
        consumer.assign([TopicPartition(name, 1, 0) for name in names])
        found: dict[str, bool] = {}
        deadline_s = time.monotonic() + CALL_S
        while len(found) < len(names):
            assert time.monotonic() < deadline_s, f"nothing is heard of {set(names) - set(found)}"
            message: Any = consumer.poll(0.1)
            if message is None:
                continue
            error = message.error()
            code = error.code() if error is not None else None
            if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # Of the group, which isn't asked about here.
            assert code in (None, KafkaError._PARTITION_EOF, KafkaError.TOPIC_AUTHORIZATION_FAILED), error
            found[message.topic()] = code != KafkaError.TOPIC_AUTHORIZATION_FAILED
        consumer.close()
        return found

    def groups(self) -> Facts:
        """Try all operations on everybody's groups."""
        found: Facts = {}
        for name in [f"{self._app}-{role.value}" for role in Role]:
            future = self._admin.describe_consumer_groups([name])[name]
            found["Group", name, "Describe"] = _passes(_result(future), unless=[KafkaError.GROUP_ID_NOT_FOUND])
            future = self._admin.delete_consumer_groups([name])[name]
            found["Group", name, "Delete"] = _passes(_result(future), unless=[KafkaError.GROUP_ID_NOT_FOUND])
            found["Group", name, "Read"] = self._commits(name)
        return found

    def _commits(self, group: str) -> bool:
        """Return whether we may set the group's position; of a topic that we mayn't read, each partition says so."""
        position = ConsumerGroupTopicPartitions(group, [TopicPartition(self._topics[0], 0, 0)])
        asked = self._admin.alter_consumer_group_offsets([position])[group]
        if not _passes(_result(asked)):
            return False
        [partition] = asked.result().topic_partitions
        return partition.error is None or partition.error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED

    def transactional_ids(self) -> Facts:
        """Try to take everybody's transactional ids."""

        def take(name: str) -> None:
            Producer(self._login | {"transactional.id": name}).init_transactions(CALL_S)

        names = [*(f"{self._app}-{role.value}-host-6066" for role in Role), f"{self._app}-redrive"]
        return {("TransactionalId", name, "Write"): _passes(functools.partial(take, name)) for name in names}

    def cluster(self) -> Facts:
        """Try what only an administrator may."""
        everything = AclBinding(
            ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, self._login["sasl.username"], "*", AclOperation.ALL,
            AclPermissionType.ALLOW,
        )  # fmt: skip
        admin = self._admin
        broker = ConfigResource(ResourceType.BROKER, "1")
        created = admin.create_topics([NewTopic("elsewhere", 1, 1)], validate_only=True)["elsewhere"]
        return {
            ("Cluster", "", "Alter"): _passes(_result(admin.create_acls([everything])[everything])),
            ("Cluster", "", "DescribeConfigs"): _passes(_result(admin.describe_configs([broker])[broker])),
            ("Cluster", "", "Create"): _passes(_result(created)),
        }


IMPLIED_BY: Final = {"Describe": ("Read", "Write"), "DescribeConfigs": ("AlterConfigs",)}


@pytest.mark.parametrize("role", Role)
def test_role_may_do_what_is_granted_and_nothing_else(role: Role, deployment: Deployment) -> None:
    """Every operation on every topic, group and transactional id, and what is an administrator's, really tried."""
    prober = Prober(deployment, role)
    found = prober.topics() | prober.groups() | prober.transactional_ids() | prober.cluster()
    given = grants(role, deployment.name, f"{deployment.name}.")
    expected = dict.fromkeys(found, False)
    for kind, name, operation in found:
        if kind in {one.value for one in Resource} and operation in {one.value for one in Operation}:
            expected[kind, name, operation] = allows(given, Resource(kind), name, Operation(operation))
    assert expected == found
    # What is granted on names that begin with a word was tried by an example.
    tried = {(kind, operation) for kind, _, operation in found}
    assert {(grant.resource.value, grant.operation.value) for grant in given} <= tried
    assert len(found) >= 9 * 8


def test_nobody_may_do_all_of_what_another_may() -> None:
    """A service that is broken into isn't another one."""
    for service in SERVICES:
        own = set(grants(service, "app"))
        for other in SERVICES.keys() - {service}:
            assert set(grants(other, "app")) - own, (service, other)


def test_only_those_who_must_read_commands_and_details() -> None:
    """Customers' data is read by the services that work on it, by who sets positions, and by who replays it."""
    for topic in TOPICS:
        readers = {role for role in Role if allows(grants(role, "app"), Resource.TOPIC, topic.name, Operation.READ)}
        services = {role for role, participant in SERVICES.items() if topic.consumer is participant}
        assert services == readers - {Role.DEPLOYER, Role.READER, Role.OPERATOR, Role.REDRIVER, Role.AUDITOR}


# The command.


def test_acls_are_applied_once_and_pruned(secured: SecuredKafka, unique: str) -> None:
    """What is missing is added, a second run changes nothing, what is more is shown, and deleted when asked for."""
    environment = {
        "REJOINDER_BOOTSTRAP_SERVERS": secured.kafka.bootstrap_servers,
        "REJOINDER_APPLICATION_ID": unique,
        "REJOINDER_TOPIC_PREFIX": f"{unique}.",
    }
    which = ["--role", "worker", "--role", "orders", "--principal", f"worker=User:CN={unique}"]
    declared = len(grants(Role.WORKER, unique)) + len(grants(Role.ORDERS, unique))

    def apply(*more: str) -> str:
        ran = run_here(["acls", "apply", *which, *more], environment)
        assert 0 == ran.returncode, ran.stderr
        return ran.stdout

    assert f"{declared} would be changed\n" in apply("--dry-run")
    shown = apply()
    assert f"missing: allow User:CN={unique} to read group {unique}-worker from *\n" in shown
    assert f"missing: allow User:{unique}-orders to write transactional_id {unique}-orders-* from *\n" in shown
    assert shown.endswith(f"{declared} changed\n")
    settings = settings_of(environment)
    chosen = principals(settings, {Role.WORKER: f"User:CN={unique}"})
    of: dict[Role, str] = {role: chosen[role] for role in (Role.WORKER, Role.ORDERS)}
    wait_for(lambda: not Acls(settings).differences(of), "they are set")
    assert "0 changed\n" == apply()
    secured.grant(f"User:CN={unique}", ResourceType.TOPIC, "everything", AclOperation.ALL)
    wait_for(lambda: Acls(settings).differences(of), "it is set")
    shown = apply()
    assert f"more than declared: allow User:CN={unique} to all topic everything from *\n" in shown
    assert shown.endswith("0 changed, 1 more than declared: --prune deletes them\n")
    assert apply("--prune").endswith("1 changed\n")
    wait_for(lambda: not Acls(settings).differences(of), "it is gone")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--principal", "worker"], "allowed: ROLE=PRINCIPAL"),
        (["--principal", "nobody=User:x"], "roles: worker, orders"),
        (["--principal", "worker=x"], "allowed: ROLE=PRINCIPAL"),
    ],
)
def test_wrong_principal_is_refused(arguments: list[str], says: str) -> None:
    """Before anybody is asked."""
    ran = run_here(["acls", "apply", *arguments], {})
    assert (2, True) == (ran.returncode, says in ran.stderr)


def test_who_may_not_set_acls_is_told(deployment: Deployment) -> None:
    """Who could."""
    ran = run_here(["acls", "apply"], deployment.environment(Role.DEPLOYER))
    assert 2 == ran.returncode
    assert "a principal that may Alter the Cluster" in ran.stderr


def test_cluster_without_an_authorizer_takes_no_acls(kafka: Any) -> None:
    """And says so."""
    ran = run_here(["acls", "apply"], {"REJOINDER_BOOTSTRAP_SERVERS": kafka.bootstrap_servers})
    assert 2 == ran.returncode
    assert "ACLs need brokers with an authorizer" in ran.stderr


# What lacks a right says so.


@pytest.fixture
def lacking(deployment: Deployment) -> Iterator[Callable[[Role, ResourceType, str, AclOperation], None]]:
    """Return a function that takes a right away until the test ends."""
    taken: list[tuple[str, ResourceType, str, AclOperation]] = []

    def take(role: Role, kind: ResourceType, name: str, operation: AclOperation) -> None:
        taken.append((f"User:{deployment.user(role)}", kind, name, operation))
        deployment.secured.revoke(*taken[-1])

    yield take
    acls = Acls(deployment.admin_settings)
    acls.apply(acls.differences(principals(deployment.admin_settings, {})))


@pytest.mark.parametrize(
    ("role", "kind", "name", "operation", "says"),
    [
        (Role.WORKER, ResourceType.TOPIC, "rights.order-confirmation.processes-changelog", AclOperation.WRITE,
         "Write on Topic rights.order-confirmation.processes-changelog"),
        (Role.WORKER, ResourceType.TOPIC, "rights.order-confirmation.commands", AclOperation.READ,
         "Read on Topic rights.order-confirmation.commands"),
        (Role.WORKER, ResourceType.GROUP, "rights-worker", AclOperation.READ, "Read on Group rights-worker"),
        (Role.WORKER, ResourceType.TRANSACTIONAL_ID, "rights-worker-", AclOperation.WRITE,
         "the broker refuses transactional id rights-worker-w-0"),
        (Role.ORDERS, ResourceType.TOPIC, "rights.order-confirmation.dead-letters", AclOperation.WRITE,
         "Write on Topic rights.order-confirmation.dead-letters"),
        (Role.EMAIL, ResourceType.TOPIC, "rights.email.ledger-changelog", AclOperation.DESCRIBE_CONFIGS,
         "DescribeConfigs on Topic rights.email.ledger-changelog"),
    ],
)  # fmt: skip
def test_service_that_lacks_a_right_says_which_and_ends(
    role: Role, kind: ResourceType, name: str, operation: AclOperation, says: str,
    deployment: Deployment, lacking: Callable[..., None], tmp_path: Any,
) -> None:  # fmt: skip
    """Exit code 2, the missing right and the command that grants it; it doesn't hang or try for ever."""
    lacking(role, kind, name, operation)
    environment = deployment.environment(role, REJOINDER_STATE_DIR=str(tmp_path), REJOINDER_INSTANCE_ID="w-0")
    ran = rejoinder([role.value], environment)
    assert 2 == ran.returncode, ran.stderr
    last = ran.stderr.strip().splitlines()[-1]
    assert says in last
    assert "`rejoinder acls apply" in last


@pytest.mark.parametrize(
    ("arguments", "role", "says"),
    [
        (["send", "order-1"], Role.READER, "--role source"),
        (["explain", "order-1"], Role.SOURCE, "--role operator"),
        (["explain", "order-1"], Role.READER, "--role operator"),
        (["topics", "apply"], Role.OPERATOR, "--role deployer"),
    ],
)
def test_command_that_lacks_a_right_says_who_has_it(
    arguments: list[str], role: Role, says: str, deployment: Deployment
) -> None:
    """Exit code 2 and one line."""
    if arguments[0] == "topics":
        # Something to do, which the operator mustn't.
        entry = ConfigEntry("retention.ms", "1000000", incremental_operation=AlterConfigOpType.SET)
        name = deployment.admin_settings.topic(COMMANDS.name)
        changed = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])]
        for future in deployment.secured.admin.incremental_alter_configs(changed).values():
            future.result(CALL_S)
    ran = run_here(arguments, deployment.environment(role))
    assert 2 == ran.returncode, ran.stderr
    assert says in ran.stderr
    assert 1 == ran.stderr.count("\n"), ran.stderr
