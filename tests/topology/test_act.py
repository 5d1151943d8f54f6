"""The core driven by a for-loop: two small clients do what is owed, until the process is over."""

from __future__ import annotations

from collections import deque

from tests.topology.world import EMAIL_ID, QUERY_IDS, World, command, details, refused, sent
from topology.actions import act
from topology.messages import GetOrderDetails, Message, SendEmail
from topology.policy import Policy
from topology.state import Step


class Orders:
    """An orders service that answers the second query."""

    def __init__(self, answers: deque[Message]) -> None:
        self.answers = answers
        self.queries: list[GetOrderDetails] = []

    def get_order_details(self, query: GetOrderDetails) -> None:
        """Note the query, and answer if it is the second attempt."""
        self.queries.append(query)
        if query.attempt == 2:
            self.answers.append(details())


class Emails:
    """An e-mail service that takes the second try."""

    def __init__(self, answers: deque[Message]) -> None:
        self.answers = answers
        self.commands: list[SendEmail] = []

    def send_email(self, command: SendEmail) -> None:
        """Note the command, refuse the first and take the second."""
        self.commands.append(command)
        self.answers.append(refused() if len(self.commands) == 1 else sent())


def test_for_loop_drives_a_process_to_its_end() -> None:
    """Two queries and two tries later the mail is sent, under one id."""
    world = World(Policy())
    answers: deque[Message] = deque([command()])
    orders, emails = Orders(answers), Emails(answers)
    now_ms = 0
    for _ in range(10):
        if answers:
            owed = world.say(now_ms, answers.popleft())
        else:
            now_ms, owed = world.let_pass()
        if owed:
            act(world.process, orders, emails)
        if world.process.finished:
            break

    assert Step.SENT is world.process.step
    assert list(QUERY_IDS[:2]) == [query.query_id for query in orders.queries]
    assert [EMAIL_ID, EMAIL_ID] == [command.email_id for command in emails.commands]


def test_act_twice_asks_the_same_twice() -> None:
    """What is repeated has the same id, so that clients can tell."""
    world = World()
    world.say(0, command())
    orders, emails = Orders(deque()), Emails(deque())

    act(world.process, orders, emails)
    act(world.process, orders, emails)

    assert [orders.queries[0]] * 2 == orders.queries
    assert [] == emails.commands


def test_act_on_a_finished_process_does_nothing() -> None:
    """An outcome is reported, not executed."""
    world = World()
    world.say(0, details(), command(), sent())
    orders, emails = Orders(deque()), Emails(deque())

    act(world.process, orders, emails)

    assert ([], []) == (orders.queries, emails.commands)
