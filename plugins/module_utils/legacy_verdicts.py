# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed installation of requirements means (contract B7), from uv's own words or, for Python 2.7, from pip's. Pure."""

from __future__ import annotations

import re

from ansible_collections.pyfleet.runtime.plugins.module_utils.uv import Verdict

_RULE = "B7: legacy mode installs the requirements file into a virtual environment of the selected Python"

# Searched in this order; the first match wins, so what causes the others stands first.
VERDICTS: tuple[tuple[str, Verdict], ...] = (
    (
        r"No space left on device|os error 28\b|Errno 28\b|Disk quota exceeded|os error 122\b|Errno 122\b",
        Verdict(
            "disk_full",
            "The disk is full.",
            _RULE,
            "Free space on the host (df -h), or give the cache and the releases another disk, then deploy again.",
        ),
    ),
    (
        r"No interpreter found|Python interpreter not found|Failed to inspect Python interpreter"
        r"|RuntimeError: failed to find interpreter",
        Verdict(
            "python_not_found",
            "The Python of the application is not on this host, or does not run.",
            "C1: the newest supported Python of the host, or the one that CC_PYTHON_VERSION names",
            "Add the version to python_versions and run the provision playbook, or change CC_PYTHON_VERSION.",
        ),
    ),
    (
        r"missing the? ?`?distutils|Python installation is missing `?distutils",
        Verdict(
            "python_incomplete",
            "The distribution's Python lacks distutils, without which uv cannot use it.",
            "C1: the newest supported Python of the host, or the one that CC_PYTHON_VERSION names",
            "Add that version to python_versions and run the provision playbook (the role python adds the package "
            "python3-distutils), or ask for another version.",
        ),
    ),
    (
        r"Unsupported editable requirement.{0,300}Git sources cannot be editable",
        Verdict(
            "requirements_unsupported",
            "The requirements ask for an editable installation from a repository, which uv does not do.",
            _RULE,
            "Write the line without -e and with the package's name: NAME @ git+https://…@COMMIT.",
        ),
    ),
    (
        r"Error parsing included file|[Ff]ailed to read from file|Could not open requirements file"
        r"|File not found: `[^`]*(?:req|\.txt|\.in)",
        Verdict(
            "requirements_missing",
            "The requirements file, or a file that it includes, cannot be read.",
            "B7: CC_PIP_REQUIREMENTS_FILE (default requirements.txt) is relative to the project root, -r and -c to the file they "
            "stand in",
            "Correct the path that the words above name, or add that file to the source.",
        ),
    ),
    (
        r"Couldn'?t parse requirement|Unexpected '[^']*', expected|Expected (?:one of|`|path|a |an )|Invalid requirement|Unexpected URL"
        r"|Unsupported (?:editable )?(?:requirement|URL)|error in .{0,80}requirements|no such option|is not a valid editable requirement"
        r"|Unexpected end of version specifier|Failed to parse",
        Verdict(
            "requirements_unparsable",
            "The requirements file cannot be read as one.",
            "B7: the file follows pip's format, one requirement per line",
            "Correct the line that the words above name (one often finds merge markers, or a version that is cut off).",
        ),
    ),
    (
        r"invalid peer certificate|UnknownIssuer|CERTIFICATE_VERIFY_FAILED|certificate verify failed|self[- ]signed certificate",
        Verdict(
            "tls_untrusted",
            "The package index shows a certificate that this host does not trust.",
            "B7: packages come from an index whose certificate the host trusts",
            "Install the authority's certificate (host_ca_bundle) and let uv use the host's certificates (uv_system_certs: true), "
            "then run the provision playbook; or set PIP_CERT, or PIP_TRUSTED_HOST for an index of your own.",
        ),
    ),
    (
        r"\b401 Unauthorized|\b403 Forbidden|status code 40[13]|HTTP error 40[13]|\b401 Client Error|\b403 Client Error"
        r"|Missing credentials|missing password|keyring.{0,80}(?:fail|not found)",
        Verdict(
            "index_unauthorized",
            "The package index refused the credentials.",
            "I: credentials stand in the application's environment: in PIP_INDEX_URL or PIP_EXTRA_INDEX_URL, or as "
            "UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD",
            "Check the credentials of that index in the application's environment, then deploy again.",
        ),
    ),
    (
        r"[Hh]ash mismatch|THESE PACKAGES DO NOT MATCH THE HASHES",
        Verdict(
            "hash_mismatch",
            "A downloaded package is not the one that the requirements' hash names.",
            "B7: a requirement with hashes is installed from exactly that file",
            "Find out why the index serves another file; only then make the requirements anew.",
        ),
    ),
    (
        r"require-hashes|no trusted hash was provided|Hashes are required in",
        Verdict(
            "hashes_incomplete",
            "Some requirements carry hashes, others do not.",
            "B7: as with pip, a hash on one requirement asks for a version and hashes on all of them, "
            "and on the packages they need",
            "Make the file with hashes throughout (uv pip compile --generate-hashes, or pip-compile), or without any.",
        ),
    ),
    (
        r"Git executable not found|git executable|No such file or directory: '?git|Cannot find command '?git",
        Verdict(
            "git_missing",
            "The requirements name a repository, and this host has no git.",
            "B7: git is needed where requirements come from repositories",
            "Add git to host_packages and run the provision playbook, or publish the package on an index.",
        ),
    ),
    (
        r"error sending request|client error \(Connect\)|Connection refused|Connection reset|dns error|Could not connect|timed out"
        r"|Network is unreachable|tcp connect error|5\d\d (?:Internal|Bad Gateway|Service|Gateway)|error decoding response body"
        r"|[Nn]etwork connectivity is disabled|NewConnectionError|ConnectTimeoutError|Temporary failure in name resolution",
        Verdict(
            "index_unreachable",
            "The package index (or another download address) cannot be reached from this host.",
            "B7: the build downloads what uv's cache does not have",
            "Check the address (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL), the proxy and the certificates on the host, then deploy again.",
        ),
    ),
    (
        r"(?:command|program) '?\S*(?:gcc|cc|g\+\+|clang|rustc|cargo)\S*'? (?:failed|not found)"
        r"|error: command '\S*(?:gcc|cc|g\+\+|clang)\S*'"
        r"|No such file or directory: '\S*(?:gcc|cc|g\+\+|clang|cargo|rustc)'|(?:gcc|cc|g\+\+|clang|cargo|rustc): (?:command )?not found"
        r"|unable to execute '\S*|Python\.h: No such file|fatal error: \S+\.h: No such file|pg_config executable not found|mysql_config"
        r"|pkg-config|[Cc]an't find Rust compiler|Unable to find a compiler"
        r"|need a C compiler|requires a C compiler|No C compiler|Microsoft Visual",
        Verdict(
            "compiler_missing",
            "A package has no wheel for this Python, and building it needs a compiler or a library that this host has not.",
            "B7: packages without a wheel for this platform and Python are built from source on the host",
            "Add what the build's output above misses to host_packages (often build-essential, python3-dev and a lib…-dev), use a "
            "version of the package that has a wheel (psycopg2-binary instead of psycopg2), or choose another CC_PYTHON_VERSION.",
        ),
    ),
    (
        r"Failed to build|Build backend failed|Failed to prepare metadata|Failed building|Command errored out|build backend returned",
        Verdict(
            "build_failed",
            "A package could not be built.",
            "B7: packages without a wheel for this platform and Python are built from source on the host",
            "Read the build's output above; often the package is older than this Python: use a newer version of it, or another "
            "CC_PYTHON_VERSION.",
        ),
    ),
    (
        r"Permission denied|os error 13\b|Errno 13\b|Read-only file system|os error 30\b|Operation not permitted",
        Verdict(
            "permission_denied",
            "The user of the build may not write where the installation has to.",
            "B7: the build runs as the application's user (`run_as`), who owns the project, the environment and the cache",
            "Give the directory in the words above to that user, or choose another `run_as` or `cache_dir`.",
        ),
    ),
    (
        r"was not found in the (?:package registry|cache|provided package locations)|\(from versions: none\)",
        Verdict(
            "package_missing",
            "A requirement names a package that the index does not have.",
            "B7: every requirement is on the index, or on one of PIP_EXTRA_INDEX_URL",
            "Correct the name in the requirements file, or add the index that has the package (PIP_EXTRA_INDEX_URL).",
        ),
    ),
    (
        r"current Python version \([^)]*\) does not satisfy|Requires-Python|requires a different Python|requires Python",
        Verdict(
            "python_incompatible",
            "A requirement does not support the application's Python.",
            "C1: the newest supported Python of the host, or the one that CC_PYTHON_VERSION names",
            "Use a version of the package for this Python, or set CC_PYTHON_VERSION.",
        ),
    ),
    (
        r"has no usable wheels|building from source is disabled"
        r"|no wheels with a matching|doesn't have a source distribution or wheel|only-binary|"
        r"[Bb]uilding source distributions for .{0,80} is disabled|no source distribution",
        Verdict(
            "no_wheel",
            "A required version has no file for this platform and Python.",
            "B7: packages come as wheels, or from source where PIP_ONLY_BINARY does not forbid it",
            "Use another version of the package, another CC_PYTHON_VERSION, or loosen PIP_ONLY_BINARY.",
        ),
    ),
    (
        r"No solution found|requirements are unsatisfiable|ResolutionImpossible|conflicting dependencies|No matching distribution found",
        Verdict(
            "unsatisfiable",
            "The requirements contradict each other, or the index lacks a version they ask for.",
            "B7: all requirements hold at once, as pip itself demands since version 20.3",
            "Read the explanation above and change the requirement it names.",
        ),
    ),
)

OTHER_FAILURE = Verdict(
    "install_failed",
    "The requirements could not be installed.",
    _RULE,
    "Read the words above; the same command can be run by hand on the host, in the project and as the application's user.",
)


def classify(words: str) -> Verdict:
    """Returns what the words of a failed installation mean."""
    flat = re.sub(r"[\s│├─▶╰×]+", " ", words)
    return next((verdict for pattern, verdict in VERDICTS if re.search(pattern, flat)), OTHER_FAILURE)
