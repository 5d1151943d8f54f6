"""
The strict readers of what the process manager reads. Generated from the schemas by `python -m tools.readers`.

What they do, and why they look as they do, is told in `checker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from schemas.reading import SHAPES, SKIP, UUID, Reader, Refuse, block_at, length_at, long_at

if TYPE_CHECKING:
    from mypy_extensions import i64


def communications_SendOrderConfirmationEmail(refuse: Refuse) -> Reader:
    def read(b: bytes) -> tuple[Any, ...]:
        e: i64
        p: i64
        s: i64
        x1: i64
        x2: i64
        x3: i64
        try:
            e = len(b)
            p = s = 5
            if not (b[p:p + 37].translate(SHAPES) == UUID): raise ValueError
            v1 = b[p + 1:p + 37].decode().lower()
            p += 37
            x1 = SKIP[b[p]]
            if x1:
                x1 += p
                v0 = b[p + 1:x1].decode()
                p = x1
            else:
                x1, s = length_at(b, p)
                p = s + x1
                v0 = b[s:p].decode()
            if b[p] < 128:
                p += 1
            else:
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            x2 = SKIP[b[p]]
            if x2:
                p += x2
            else:
                x2, s = length_at(b, p)
                p = s + x2
            x3 = SKIP[b[p]]
            if x3:
                p += x3
            else:
                if not b[s:p].isascii(): b[s:p].decode()
                x3, s = length_at(b, p)
                p = s + x3
            if not b[s:p].isascii(): b[s:p].decode()
            if not (p == e): raise ValueError
            return (v0, v1, )
        except (IndexError, ValueError, RecursionError) as exc:
            raise refuse(b, exc) from None
    return read


def communications_CancelOrderConfirmation(refuse: Refuse) -> Reader:
    def read(b: bytes) -> tuple[Any, ...]:
        e: i64
        p: i64
        s: i64
        x1: i64
        try:
            e = len(b)
            p = s = 5
            if not (b[p:p + 37].translate(SHAPES) == UUID): raise ValueError
            v1 = b[p + 1:p + 37].decode().lower()
            p += 37
            x1 = SKIP[b[p]]
            if x1:
                x1 += p
                v0 = b[p + 1:x1].decode()
                p = x1
            else:
                x1, s = length_at(b, p)
                p = s + x1
                v0 = b[s:p].decode()
            if b[p] < 128:
                p += 1
            else:
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            if not (p == e): raise ValueError
            return (v0, v1, )
        except (IndexError, ValueError, RecursionError) as exc:
            raise refuse(b, exc) from None
    return read


def orders_OrderDetailsRetrieved(refuse: Refuse) -> Reader:
    def read(b: bytes) -> tuple[Any, ...]:
        e: i64
        p: i64
        s: i64
        x1: i64
        x2: i64
        x3: i64
        x4: i64
        x5: i64
        x6: i64
        x7: i64
        x8: i64
        x9: i64
        x10: i64
        x11: i64
        x12: i64
        x13: i64
        try:
            e = len(b)
            p = s = 5
            x1 = b[p]
            p += 1
            if not (x1 < 4 and not x1 & 1): raise ValueError
            if x1 == 0:
                pass
            elif x1 == 2:
                pass
                if not (b[p:p + 37].translate(SHAPES) == UUID): raise ValueError
                p += 37
            if b[p] < 128:
                p += 1
            else:
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            x2 = p
            x3 = SKIP[b[p]]
            if x3:
                x3 += p
                v0 = b[p + 1:x3].decode()
                p = x3
            else:
                x3, s = length_at(b, p)
                p = s + x3
                v0 = b[s:p].decode()
            v1 = b[p]
            if v1 < 128:
                p += 1
                v1 = v1 >> 1 ^ -(v1 & 1)
            else:
                v1, p = long_at(b, p)
                s = p
            if b[p] < 128:
                p += 1
            else:
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            x4 = SKIP[b[p]]
            if x4:
                p += x4
            else:
                x4, s = length_at(b, p)
                p = s + x4
            x5 = SKIP[b[p]]
            if x5:
                p += x5
            else:
                if not b[s:p].isascii(): b[s:p].decode()
                x5, s = length_at(b, p)
                p = s + x5
            x6 = SKIP[b[p]]
            if x6:
                p += x6
            else:
                if not b[s:p].isascii(): b[s:p].decode()
                x6, s = length_at(b, p)
                p = s + x6
            x7 = SKIP[b[p]]
            if x7:
                p += x7
            else:
                if not b[s:p].isascii(): b[s:p].decode()
                x7, s = length_at(b, p)
                p = s + x7
            while b[p]:
                x8 = b[p]
                if x8 > 127 or x8 & 1:
                    if not b[s:p].isascii(): b[s:p].decode()
                    x8, p, x9 = block_at(b, p)
                    s = p
                else:
                    p += 1; x8 >>= 1; x9 = -1
                for _ in range(x8):
                    x11 = SKIP[b[p]]
                    if x11:
                        p += x11
                    else:
                        if not b[s:p].isascii(): b[s:p].decode()
                        x11, s = length_at(b, p)
                        p = s + x11
                    x12 = SKIP[b[p]]
                    if x12:
                        p += x12
                    else:
                        if not b[s:p].isascii(): b[s:p].decode()
                        x12, s = length_at(b, p)
                        p = s + x12
                    if b[p] < 128:
                        p += 1
                    else:
                        if not b[s:p].isascii(): b[s:p].decode()
                        s = p
                        p += 1
                        while b[p] > 127: p += 1
                        if not b[p] or p - s >= 4 and (p - s > 4 or b[p] > 15): raise ValueError
                        p += 1
                        s = p
                    if b[p] < 128:
                        p += 1
                    else:
                        if not b[s:p].isascii(): b[s:p].decode()
                        s = p
                        p += 1
                        while b[p] > 127: p += 1
                        if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                        p += 1
                        s = p
                if not (x9 < 0 or p == x9): raise ValueError
            p += 1
            if b[p] < 128:
                p += 1
            else:
                if not b[s:p].isascii(): b[s:p].decode()
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            x13 = SKIP[b[p]]
            if x13:
                p += x13
            else:
                if not b[s:p].isascii(): b[s:p].decode()
                x13, s = length_at(b, p)
                p = s + x13
            v2 = b[x2:p]
            if not b[s:p].isascii(): b[s:p].decode()
            if not (p == e): raise ValueError
            return (v0, v1, v2, )
        except (IndexError, ValueError, RecursionError) as exc:
            raise refuse(b, exc) from None
    return read


def orders_OrderDetailsNotFound(refuse: Refuse) -> Reader:
    def read(b: bytes) -> tuple[Any, ...]:
        e: i64
        p: i64
        s: i64
        x1: i64
        try:
            e = len(b)
            p = s = 5
            if not (b[p:p + 37].translate(SHAPES) == UUID): raise ValueError
            v1 = b[p + 1:p + 37].decode().lower()
            p += 37
            x1 = SKIP[b[p]]
            if x1:
                x1 += p
                v0 = b[p + 1:x1].decode()
                p = x1
            else:
                x1, s = length_at(b, p)
                p = s + x1
                v0 = b[s:p].decode()
            if b[p] < 128:
                p += 1
            else:
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            if not (p == e): raise ValueError
            return (v0, v1, )
        except (IndexError, ValueError, RecursionError) as exc:
            raise refuse(b, exc) from None
    return read


def communications_EmailSent(refuse: Refuse) -> Reader:
    def read(b: bytes) -> tuple[Any, ...]:
        e: i64
        p: i64
        s: i64
        x1: i64
        x2: i64
        try:
            e = len(b)
            p = s = 5
            if not (b[p:p + 37].translate(SHAPES) == UUID): raise ValueError
            v1 = b[p + 1:p + 37].decode().lower()
            p += 37
            x1 = SKIP[b[p]]
            if x1:
                x1 += p
                v0 = b[p + 1:x1].decode()
                p = x1
            else:
                x1, s = length_at(b, p)
                p = s + x1
                v0 = b[s:p].decode()
            x2 = SKIP[b[p]]
            if x2:
                p += x2
            else:
                x2, s = length_at(b, p)
                p = s + x2
            if b[p] < 128:
                p += 1
            else:
                if not b[s:p].isascii(): b[s:p].decode()
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            if not b[s:p].isascii(): b[s:p].decode()
            if not (p == e): raise ValueError
            return (v0, v1, )
        except (IndexError, ValueError, RecursionError) as exc:
            raise refuse(b, exc) from None
    return read


def communications_EmailFailed(refuse: Refuse) -> Reader:
    def read(b: bytes) -> tuple[Any, ...]:
        e: i64
        p: i64
        s: i64
        x1: i64
        x2: i64
        try:
            e = len(b)
            p = s = 5
            if not (b[p:p + 37].translate(SHAPES) == UUID): raise ValueError
            v1 = b[p + 1:p + 37].decode().lower()
            p += 37
            x1 = SKIP[b[p]]
            if x1:
                x1 += p
                v0 = b[p + 1:x1].decode()
                p = x1
            else:
                x1, s = length_at(b, p)
                p = s + x1
                v0 = b[s:p].decode()
            if not (b[p] < 2): raise ValueError
            v2 = b[p] == 1
            p += 1
            x2 = SKIP[b[p]]
            if x2:
                x2 += p
                v3 = b[p + 1:x2].decode()
                p = x2
            else:
                x2, s = length_at(b, p)
                p = s + x2
                v3 = b[s:p].decode()
            if b[p] < 128:
                p += 1
            else:
                s = p
                p += 1
                while b[p] > 127: p += 1
                if not b[p] or p - s >= 9 and (p - s > 9 or b[p] > 1): raise ValueError
                p += 1
                s = p
            if not (p == e): raise ValueError
            return (v0, v1, v2, v3, )
        except (IndexError, ValueError, RecursionError) as exc:
            raise refuse(b, exc) from None
    return read


READERS: Final[dict[tuple[str, tuple[str, ...], int], Callable[[Refuse], Reader]]] = {
    ('b4653c7cb1097f4a025121abf83206730e229c232caa0c0872876427ac1c624b', ('order_id', 'command_id'), 5): communications_SendOrderConfirmationEmail,
    ('cf2b3705c1b3e672466887a710b23c988451b23a521e9778b8d5f1eef4e46843', ('order_id', 'command_id'), 5): communications_CancelOrderConfirmation,
    ('cf5bd5fcfa407645eafe325addeaf46eed4cd803412762e90b967b671f155392', ('order.order_id', 'order.version', 'order'), 5): orders_OrderDetailsRetrieved,
    ('a6f2baf7e0fcb2fc8746a893b0a4be683acf6bc9f74e0f5ed776650d4750f19d', ('order_id', 'query_id'), 5): orders_OrderDetailsNotFound,
    ('5ce632192791f68d9f3452d98f393ae86c09f55875bdebc1b0d965d25024e224', ('order_id', 'email_id'), 5): communications_EmailSent,
    ('4048f9aa82014d50fe520c7495362b3c6c8ab402fd1c51bda5cdc26619d95408', ('order_id', 'email_id', 'permanent', 'reason'), 5): communications_EmailFailed,
}
"""By the schema's digest, the fields taken out, and where in a value the record begins."""
