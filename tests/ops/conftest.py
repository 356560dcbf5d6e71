from collections.abc import Iterator

import pytest

from callgate.net.shared import Shared


@pytest.fixture
def shared() -> Iterator[Shared]:
    memory = Shared()
    yield memory
    memory.close()
