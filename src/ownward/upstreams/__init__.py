"""The one outbound door: transport, permit check, dialects.

It does not know why an upstream was chosen.
"""

from ownward.upstreams._events import EventCutter, data_of
from ownward.upstreams._json import UNREADABLE, RawMembers, decode_members, with_whole_characters
from ownward.upstreams._read_answer import id_in_headers
from ownward.upstreams._stencil import Stencil
from ownward.upstreams.bounds import input_tokens_upper_bound, output_tokens_upper_bound
from ownward.upstreams.certificates import PemFile, load_chain
from ownward.upstreams.door import Door, make_transport
from ownward.upstreams.gathering import Gathering
from ownward.upstreams.http1 import Http1Transport
from ownward.upstreams.lengths import says_too_long
from ownward.upstreams.response import Response
from ownward.upstreams.splicing import Endpoint, Spliced, splice
from ownward.upstreams.tap import StreamTap
from ownward.upstreams.terms import ADDED as ADDED_EXTRAS
from ownward.upstreams.terms import NO_TERMS, NOTHING_ASKED, READ_ONCE, SUMMARIES, AskedTerms, Terms, terms_asked
from ownward.upstreams.terms import TAKEN_OFF as TAKEN_OFF_EXTRAS
from ownward.upstreams.timeouts import DoorLimits, Timeouts
from ownward.upstreams.transport import Transport
from ownward.upstreams.ways import DIRECT, Proxy, Way
from ownward.upstreams.whole import WholeAnswer

__all__ = [
    "ADDED_EXTRAS",
    "DIRECT",
    "NOTHING_ASKED",
    "NO_TERMS",
    "READ_ONCE",
    "SUMMARIES",
    "TAKEN_OFF_EXTRAS",
    "UNREADABLE",
    "AskedTerms",
    "Door",
    "DoorLimits",
    "Endpoint",
    "EventCutter",
    "Gathering",
    "Http1Transport",
    "PemFile",
    "Proxy",
    "RawMembers",
    "Response",
    "Spliced",
    "Stencil",
    "StreamTap",
    "Terms",
    "Timeouts",
    "Transport",
    "Way",
    "WholeAnswer",
    "data_of",
    "decode_members",
    "id_in_headers",
    "input_tokens_upper_bound",
    "load_chain",
    "make_transport",
    "output_tokens_upper_bound",
    "says_too_long",
    "splice",
    "terms_asked",
    "with_whole_characters",
]
