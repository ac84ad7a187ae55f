"""LanceDB is imported without its client of remote catalogues; a later import of that works."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from indexes.store.lance import lancedb
here = lancedb()
client = "lance_namespace_urllib3_client"
assert not any(name.startswith(f"{client}.api.") for name in sys.modules), "not put off"
assert client in sys.modules
connection = here.connect(sys.argv[1])
table = connection.create_table("t", [{"a": 1}])
assert connection.list_tables().tables == ["t"] and table.to_arrow().num_rows == 1
import lance_namespace_urllib3_client as whole
from lance_namespace_urllib3_client.api.table_api import TableApi
from lance_namespace_urllib3_client import NamespaceApi
assert whole.TableApi is TableApi and TableApi.__module__ == f"{client}.api.table_api"
assert callable(TableApi.describe_table) and NamespaceApi.__module__.endswith("namespace_api")
assert whole.models.QueryTableRequest is here.namespace.QueryTableRequest
assert lancedb() is here
"""


def test_the_client_is_imported_late_and_works(tmp_path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
