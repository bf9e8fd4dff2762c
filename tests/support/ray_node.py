"""Starts one more node of a local Ray cluster: `python -m tests.support.ray_node --address …`, as `ray start` has it.

Ray keeps nodes of several machines apart from a cluster that listens on 127.0.0.1 alone, and this is one of those.
"""

import sys


def main() -> None:
    from ray._private import services
    from ray.scripts.scripts import main as ray_command

    services.resolve_ip_for_localhost = lambda host: host
    sys.argv[1:] = ["start", "--node-ip-address", "127.0.0.1", *sys.argv[1:]]
    ray_command()


if __name__ == "__main__":
    main()
