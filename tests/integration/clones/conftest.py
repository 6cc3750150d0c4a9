"""The lab of the node's tests, and copies that are deleted after the test."""

from tests.integration.clones.chains import chain as chain
from tests.integration.controller.conftest import view as view
from tests.integration.controller.conftest import watched as watched
from tests.integration.node.conftest import ioctx as ioctx
from tests.integration.node.conftest import lab as lab
