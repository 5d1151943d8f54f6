"""docs/security.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from streams.cli.acls import page
from streams.settings import PREFIX, Settings
from streams.web_server import CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX, LIFE_S, REQUEST_BYTES_MAX
from topology.acls import Role
from topology.policy import DAY_MS
from topology.topics import TOPICS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_table_of_acls_is_up_to_date() -> None:
    """It is what `rejoinder acls show --markdown` prints; put it in anew after a change."""
    between = PAGE.partition("<!-- acls: `rejoinder acls show --markdown` -->\n\n")[2].partition("\n<!-- end of acls")[
        0
    ]
    assert page() == between
    assert [] == [role.value for role in Role if f"| {role.value} |" not in between]


def test_settings_are_called_so() -> None:
    """Each name on the page, short forms and files of secrets too, is a setting or one of librdkafka's."""
    names = set(re.findall(rf"{PREFIX}[A-Z_]+", PAGE))
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    wrong = {
        name for name in names if name.removesuffix("_FILE") not in known and not name.startswith(f"{PREFIX}KAFKA_")
    }
    assert set() == wrong


def test_limits_of_the_web_server_are_these() -> None:
    """As the page has them."""
    text = (
        f"{LIFE_S:.0f} seconds, {REQUEST_BYTES_MAX // 1024} KiB, no body; GET and HEAD, and POST; {CONNECTIONS_MAX}\n"
    )
    assert text in PAGE
    assert f"connections, {CONNECTIONS_OF_ONE_MAX} of one address" in PAGE


def test_every_topic_with_its_retention_is_on_the_page() -> None:
    """Somebody has to answer for how long data is kept."""
    rows = PAGE.partition("## Personal data")[2].partition("## Checklist")[0]
    assert [] == [topic.name for topic in TOPICS if f"`{topic.name}`" not in rows]
    assert {1, 7, 30, 32} == {topic.retention_ms // DAY_MS for topic in TOPICS}


def test_files_that_the_page_names_are_there() -> None:
    """Tests and sources that it points to."""
    paths = re.findall(r"`(tests/[\w/.]+\.py)`|\(\.\./([\w/.]+)\)", PAGE)
    assert paths
    assert [] == [path for pair in paths for path in pair if path and not (ROOT / path).exists()]
