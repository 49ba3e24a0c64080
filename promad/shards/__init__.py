"""The other shards: daemons of the same configuration, asked over their API.

`client` sends one request to one daemon. `peer` remembers which shard a daemon has and whether it
responds. `peers` finds the daemon of a shard and asks all shards at once; `other_shards` keeps
those of the configuration in use. Requests are sent only while somebody looks, on threads of that
request: the ticks of the daemon neither wait for them nor see them fail.
"""

from promad.shards.client import Client, SilentError, open_client
from promad.shards.other_shards import OtherShards
from promad.shards.peer import Overview, Timing
from promad.shards.peers import Outcome, Peers

__all__ = [
    "Client",
    "OtherShards",
    "Outcome",
    "Overview",
    "Peers",
    "SilentError",
    "Timing",
    "open_client",
]
