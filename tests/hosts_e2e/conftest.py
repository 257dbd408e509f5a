# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End-to-end tests on the hosts of the run that PYFLEET_TESTBED_RUN names; started by `make test-hosts`."""

from __future__ import annotations

from ansible_collections.pyfleet.runtime.tests.testbed import bed, python_mirror  # noqa: F401
