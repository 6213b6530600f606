"""One request's price: the price book and the arithmetic of a charge.

It does not know owning costs, and never takes an unknown price as zero.
"""

from ownward.pricing._book import TYPICAL_USAGE, PriceBook, PriceList
from ownward.pricing._price import Price, PriceMode, PriceStep
from ownward.pricing._record import price_from_record
from ownward.pricing._stated import load_prices, prices_from_toml
from ownward.pricing._usage import Usage

__all__ = [
    "TYPICAL_USAGE",
    "Price",
    "PriceBook",
    "PriceList",
    "PriceMode",
    "PriceStep",
    "Usage",
    "load_prices",
    "price_from_record",
    "prices_from_toml",
]
