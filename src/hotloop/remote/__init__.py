"""Fetching what requests name by URL, without becoming a way into the network this server stands in."""

from hotloop.remote.fetcher import FetchLimits, HttpContent
from hotloop.remote.sources import Source, SourceProblem

__all__ = ["FetchLimits", "HttpContent", "Source", "SourceProblem"]
