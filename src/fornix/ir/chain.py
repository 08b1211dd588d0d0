"""The list of nodes in a graph: linked, so that it may change while it is iterated.

An iteration stands on a link, not on a number. While it runs, any node may be removed, moved or
inserted, and what it yields is defined:

* a node removed ahead of the iteration is not yielded; one inserted ahead of it is;
* when the current node is removed, the iteration stands in the gap that it left: it goes on with
  whatever follows the gap at that time, so also with nodes that were inserted right behind it;
* a node that is moved ahead of the iteration is yielded there, even if it was yielded before.

This file keeps order only. Uses, ownership and names are `fornix.ir.graph`'s business, which is the
only caller of `insert` and `unlink`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from fornix.ir.graph import Node


class Link:
    """One place in a chain; once ``node`` is None it is a gap, or the anchor of the chain."""

    __slots__ = ("next", "node", "previous")

    def __init__(self, node: Node | None) -> None:
        self.node = node
        self.next: Link = self
        self.previous: Link = self


class NodeChain(Sequence["Node"]):
    """The nodes of a graph in order; changed through the methods of `Graph`."""

    __slots__ = ("_anchor", "_links")

    def __init__(self) -> None:
        self._anchor = Link(None)  # ahead of the first node and behind the last
        self._links: dict[Node, Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __contains__(self, node: object) -> bool:
        return node in self._links

    def __iter__(self) -> Iterator[Node]:
        link = self._anchor.next
        while link is not self._anchor:
            node = link.node
            if node is not None:
                yield node
            if link.node is None:
                link = self._before(link)
            link = link.next

    def __reversed__(self) -> Iterator[Node]:
        link = self._anchor.previous
        while link is not self._anchor:
            node = link.node
            if node is not None:
                yield node
            if link.node is None:
                link = self._after(link)
            link = link.previous

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> list[Node]: ...
    def __getitem__(self, index: int | slice) -> Node | list[Node]:
        """The node at ``index``, found from the nearer end; a slice copies."""
        if isinstance(index, slice):
            return list(self)[index]
        count = len(self)
        place = index + count if index < 0 else index
        if not 0 <= place < count:
            raise IndexError(f"the graph has {count} nodes, found index {index}")
        nearer = iter(self) if 2 * place < count else reversed(self)
        steps = place if 2 * place < count else count - 1 - place
        for _ in range(steps):
            next(nearer)
        return next(nearer)

    def __repr__(self) -> str:
        return repr(list(self))

    def follower(self, node: Node) -> Node | None:
        """The node behind ``node``."""
        return self._links[node].next.node

    def insert(self, node: Node, before: Node | None) -> None:
        """Put ``node`` ahead of ``before``, or at the end."""
        after = self._anchor if before is None else self._links[before]
        link = self._links[node] = Link(node)
        link.previous, link.next = after.previous, after
        after.previous.next = link
        after.previous = link

    def unlink(self, node: Node) -> None:
        """Take ``node`` out; iterations that stand on it stand in the gap."""
        link = self._links.pop(node)
        link.previous.next, link.next.previous = link.next, link.previous
        link.node = None

    def _before(self, gap: Link) -> Link:
        """The last link that is still in the chain ahead of ``gap``."""
        while gap.node is None and gap is not self._anchor:
            gap = gap.previous
        return gap

    def _after(self, gap: Link) -> Link:
        while gap.node is None and gap is not self._anchor:
            gap = gap.next
        return gap
