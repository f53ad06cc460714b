#!/usr/bin/env python3
"""Writes frames.txt and meta.txt beside this file.

A second implementation of both formats, from the tables in the heads of src/wire/frame.rs, src/meta/block.rs and
their submodules, so that a mistake must be made twice to go unseen. Run it by hand after a change of format, and
read the difference. Needs nothing but Python.
"""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def u128(value):
    return value.to_bytes(16, "little")


def history(ids, count=None):
    count = len(ids) if count is None else count
    return struct.pack("<Q", count) + b"".join(map(u128, ids)).ljust(256, b"\0")


def hexed(data):
    """Groups of eight bytes, with long runs of one byte as BYTE*COUNT."""
    words, at = [], 0
    while at < len(data):
        run = len(data) - at - len(data[at:].lstrip(data[at : at + 1]))
        if run < len(data) - at:
            run -= run % 8
        if run >= 24:
            words.append(f"{data[at]:02x}*{run}")
        else:
            run = 8
            words.append(data[at : at + 8].hex())
        at += run
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) > 96:
            lines.append(line)
            line = "   "
        line += " " + word
    return "\n".join(lines + [line])


class File:
    def __init__(self, name, head):
        self.path, self.text = HERE / name, head

    def section(self, title):
        self.text += f"\n# {title}\n"

    def add(self, name, data, expected):
        mark = "!" if expected.startswith("! ") else "="
        self.text += f"\n{name}\n{hexed(data)}\n    {mark} {expected.removeprefix('! ')}\n"

    def write(self):
        self.path.write_text(self.text)


# Frames.

KINDS = (
    "Hello State Refuse BitmapPage BitmapFull BitmapAck BitmapEnd Ready Write WriteZero WriteAck Flush FlushAck "
    "Read ReadReply ResyncData ResyncZero ResyncAck ResyncEnd ResyncEndAck PromoteAsk PromoteAnswer RoleIs "
    "DiskFailed DiskFailedAck Bye Ping Pong Mark DigestAsk DigestReply"
).split()


def frame(kind, code=0, flag=0, id=0, start=0, sectors=0, payload=0, payload_crc=0, extension=b"", page=0,
          protocol=(0, 0), magic=b"rblk", extension_bytes=None, extension_crc=None, spare=b"", crc=None):
    number = KINDS.index(kind) + 1 if isinstance(kind, str) else kind
    header = magic + struct.pack(
        "<BBBxQQIIIIIIHH", number, code, flag, id, start, sectors, payload, payload_crc,
        len(extension) if extension_bytes is None else extension_bytes,
        crc32c(extension) if extension_crc is None else extension_crc, page, *protocol,
    ) + spare.ljust(8, b"\0")
    header += struct.pack("<I", crc32c(header) if crc is None else crc)
    assert len(header) == 64
    return header + extension


VOLUME = 0x00112233445566778899AABBCCDDEEFF
A, B, C = (digit * 0x11111111111111111111111111111111 for digit in (0xA, 0xB, 0xC))


CONFIG = 0x0123456789ABCDEF


def hello(node=1, discard=1, payload_max=131072, usable=130536, config=None):
    """Versions 1 and 2 say no `config`."""
    common = struct.pack("<QQIIHHHBB", usable, 0, 512, payload_max, 128, 16, 128, node, discard)
    return u128(VOLUME) + common + (b"" if config is None else struct.pack("<Q", config))


def hello_text(protocol, usable=130536):
    return (
        f"Hello(Hello {{ protocol_min: {protocol[0]}, protocol_max: {protocol[1]}, volume: {VOLUME:032X}, "
        f"node: NodeId(1), usable_sectors: {usable}, agreed_sectors: 0, block_bytes: 512, "
        "payload_bytes_max: 131072, data_credits: 128, read_credits: 16, zero_credits: 128, discard: true, "
        f"config: {CONFIG if protocol[1] >= 3 else 0} }})"
    )


def state(flags=0b00001, disk=6, role=1, policies=(1, 1, 1, 2), more_flags=0, dirty=9, marks=(3, 4), current=A,
          base=0, past=(B, C), count=None):
    return (
        struct.pack("<BBB4BBQQQ", flags, disk, role, *policies, more_flags, dirty, *marks)
        + u128(current) + u128(base) + history(past, count)
    )


def state_text(base="None", flags=("false",) * 7, dirty=9, marks=(3, 4),
               policies=("Disconnect", "Disconnect", "Disconnect", "RetryConnect")):
    return (
        f"State(State {{ current: Some(AAAAAAAA), base: {base}, history: [BBBBBBBB, CCCCCCCC], disk: UpToDate, "
        f"role: Primary, dirty_blocks: {dirty}, crashed: {flags[0]}, survivor: {flags[1]}, kept: {flags[6]}, "
        f"peer_outdated: {flags[2]}, discard_my_data: {flags[3]}, parted_primary: {flags[4]}, "
        f"policies: Policies {{ dual_primary: {flags[5]}, after_0pri: {policies[0]}, "
        f"after_1pri: {policies[1]}, after_2pri: {policies[2]}, "
        f"rr_conflict: {policies[3]} }}, "
        f"mark: {marks[0]}, peer_mark: {marks[1]} }})"
    )


U64, U32, LAST = 2**64 - 1, 2**32 - 1, (2**63 - 1) // 512


def good_frames(out):
    out.section("What each message looks like")
    out.add("hello", frame("Hello", protocol=(1, 1), extension=hello()), hello_text((1, 1)))
    out.add("state", frame("State", extension=state()), state_text())
    everything = state(flags=0xFF, more_flags=1, policies=(7, 5, 3, 4), base=C, dirty=U64, marks=(2**62, 2**62))
    out.add("state, all flags", frame("State", extension=everything),
            state_text("Some(CCCCCCCC)", ("true",) * 7, U64, (2**62, 2**62),
                       ("DiscardSecondNode", "CallPriLostAfterSb", "CallPriLostAfterSb", "CallPriLost")))
    out.add("refuse", frame("Refuse", code=6), "Refuse(SplitBrain)")
    out.add("refuse, the newest code", frame("Refuse", code=17), "Refuse(SourceUnsure)")
    out.add("refuse, the code that never changes", frame("Refuse", code=1), "Refuse(Protocol)")
    out.add("bitmap page", frame("BitmapPage", page=7, payload=3968, payload_crc=0x1234), "BitmapPage { page: 7 }")
    out.add("bitmap full", frame("BitmapFull", page=U32), f"BitmapFull {{ page: {U32} }}")
    for kind in ("BitmapAck", "BitmapEnd", "Ready", "ResyncEndAck", "PromoteAsk", "DiskFailed", "Ping", "Pong"):
        out.add(f"{kind}, which uses no field", frame(kind), kind)
    out.add("write", frame("Write", id=5, start=2048, sectors=8, payload=4096, payload_crc=0xDEADBEEF),
            "Write { id: 5, span: 2048+8, fua: false }")
    out.add("write, longest, last sectors of an address space, on stable media",
            frame("Write", flag=1, id=U64, start=LAST - 256, sectors=256, payload=131072),
            f"Write {{ id: {U64}, span: {LAST - 256}+256, fua: true }}")
    out.add("write zero", frame("WriteZero", code=3, flag=1, id=6, start=1, sectors=65536),
            "WriteZero { id: 6, span: 1+65536, kind: ZeroesAllocated, fua: true }")
    out.add("write ack", frame("WriteAck", code=1, id=5), "WriteAck { id: 5, outcome: Done }")
    out.add("flush", frame("Flush", id=9), "Flush { id: 9, mark: false }")
    out.add("flush with a watermark", frame("Flush", id=9, flag=1), "Flush { id: 9, mark: true }")
    out.add("mark", frame("Mark", id=2**62, flag=1), f"Mark {{ mark: {2**62}, more: true }}")
    out.add("flush ack", frame("FlushAck", code=2, id=9), "FlushAck { id: 9, outcome: Failed }")
    out.add("read", frame("Read", id=1, start=0, sectors=256), "Read { id: 1, span: 0+256 }")
    out.add("read reply", frame("ReadReply", code=1, id=1, start=0, sectors=1, payload=512),
            "ReadReply { id: 1, span: 0+1, outcome: Done }")
    out.add("read reply, failed, without payload", frame("ReadReply", code=2, id=1, start=0, sectors=1),
            "ReadReply { id: 1, span: 0+1, outcome: Failed }")
    out.add("digest ask", frame("DigestAsk", id=4, start=8, sectors=16), "DigestAsk { id: 4, span: 8+16 }")
    out.add("digest reply", frame("DigestReply", code=1, id=4, start=8, sectors=16, payload=32),
            "DigestReply { id: 4, span: 8+16, outcome: Done }")
    out.add("digest reply, skipped, without payload", frame("DigestReply", code=3, id=4, start=8, sectors=16),
            "DigestReply { id: 4, span: 8+16, outcome: Skipped }")
    out.add("resync data", frame("ResyncData", id=2, start=8, sectors=8, payload=4096),
            "ResyncData { id: 2, span: 8+8 }")
    out.add("resync zero", frame("ResyncZero", id=3, start=8, sectors=8), "ResyncZero { id: 3, span: 8+8 }")
    out.add("resync ack", frame("ResyncAck", code=3, id=3), "ResyncAck { id: 3, outcome: Skipped }")
    out.add("resync end", frame("ResyncEnd", extension=u128(A) + history([B])),
            "ResyncEnd { current: AAAAAAAA, history: [BBBBBBBB] }")
    out.add("promote answer", frame("PromoteAnswer", flag=1), "PromoteAnswer { granted: true }")
    out.add("role is", frame("RoleIs", code=2), "RoleIs { role: Secondary }")
    out.add("disk failed ack", frame("DiskFailedAck", extension=u128(C)), "DiskFailedAck { current: CCCCCCCC }")
    out.add("bye", frame("Bye", flag=0), "Bye { outdated: false }")


def version_frames(out):
    out.section("Versions")
    ours = hello(config=CONFIG)
    unfit = "does not fit the type of the message"
    out.add("hello of version 2", frame("Hello", protocol=(1, 2), extension=hello()), hello_text((1, 2)))
    out.add("hello of version 3", frame("Hello", protocol=(1, 3), extension=ours), hello_text((1, 3)))
    out.add("hello of a later version without common one", frame("Hello", protocol=(4, 9), extension=ours),
            hello_text((4, 9)))
    out.add("hello of a later version that appended something",
            frame("Hello", protocol=(1, 4), extension=ours + b"\x5a" * 100), hello_text((1, 4)))
    out.add("hello of a later version that appended too much",
            frame("Hello", protocol=(1, 4), extension=ours + b"\x5a" * 457),
            f"! An extension of 513 bytes {unfit}")
    out.add("hello of our version that appended something", frame("Hello", protocol=(1, 3), extension=ours + b"\0"),
            f"! An extension of 57 bytes {unfit}")
    out.add("hello of version 2 that appended something", frame("Hello", protocol=(1, 2), extension=ours),
            f"! An extension of 56 bytes {unfit}")
    out.add("hello of version 3 that lacks something", frame("Hello", protocol=(1, 3), extension=hello()),
            f"! An extension of 48 bytes {unfit}")
    out.add("hello of a later version that lacks something", frame("Hello", protocol=(1, 4), extension=ours[:-1]),
            f"! An extension of 55 bytes {unfit}")
    out.add("hello without versions", frame("Hello", protocol=(2, 1), extension=hello()),
            "! The message is invalid: its range of protocol versions is empty")


def hostile_frames(out):
    out.section("Damage")
    out.add("zeroes", bytes(64), "! The stream is not rblk's, or out of step: wrong magic number")
    out.add("http", b"GET / HTTP/1.1\r\nHost: docker1:7790\r\n".ljust(64, b"\n"),
            "! The stream is not rblk's, or out of step: wrong magic number")
    out.add("wrong checksum", frame("Ping", crc=0x12345678), "! The checksum of the header is wrong")
    out.add("wrong checksum of the extension", frame("State", extension=state(), extension_crc=7),
            "! The checksum of the extension is wrong")
    out.section("Right checksums, wrong lengths")
    unfit = "does not fit the message"
    out.add("endless payload", frame("Write", id=1, start=0, sectors=8, payload=U32),
            f"! A payload of {U32} bytes {unfit}")
    out.add("endless payload and span", frame("Write", id=1, start=0, sectors=U32, payload=U32),
            f"! A payload of {U32} bytes {unfit}")
    out.add("payload a byte short", frame("Write", id=1, start=0, sectors=8, payload=4095),
            f"! A payload of 4095 bytes {unfit}")
    out.add("write without payload", frame("Write", id=1, start=0, sectors=8), f"! A payload of 0 bytes {unfit}")
    out.add("span longer than a request, payload to match",
            frame("Write", id=1, start=0, sectors=257, payload=257 * 512),
            f"! A payload of 131584 bytes {unfit}")
    out.add("span whose bytes wrap to the payload", frame("Write", id=1, start=0, sectors=2**23 + 8, payload=4096),
            "! The message is invalid: its span is longer than one request may be")
    out.add("flush with payload", frame("Flush", id=1, payload=512), f"! A payload of 512 bytes {unfit}")
    out.add("failed read reply with payload", frame("ReadReply", code=2, id=1, start=0, sectors=1, payload=512),
            f"! A payload of 512 bytes {unfit}")
    out.add("bitmap page of another size", frame("BitmapPage", page=0, payload=4096),
            f"! A payload of 4096 bytes {unfit}")
    out.add("hello with payload", frame("Hello", protocol=(1, 1), extension=hello(), payload=1),
            f"! A payload of 1 bytes {unfit}")
    out.add("endless extension", frame("State", extension_bytes=U32, extension_crc=0),
            f"! An extension of {U32} bytes does not fit the type of the message")
    out.add("extension where none belongs", frame("Ping", extension=bytes(16)),
            "! An extension of 16 bytes does not fit the type of the message")
    out.add("message without its extension", frame("DiskFailedAck"),
            "! An extension of 0 bytes does not fit the type of the message")
    out.section("Right checksums, wrong spans")
    out.add("empty span", frame("Read", id=1, start=5, sectors=0), "! There is no span of 0 sectors from sector 5 on")
    out.add("span past the end of u64", frame("Read", id=1, start=U64, sectors=1),
            f"! There is no span of 1 sectors from sector {U64} on")
    out.add("span past the end of a file offset", frame("Read", id=1, start=LAST, sectors=1),
            f"! There is no span of 1 sectors from sector {LAST} on")
    out.add("zeroes over too much", frame("WriteZero", code=1, id=1, start=0, sectors=65537),
            "! The message is invalid: its span is longer than one request may be")


def invalid_frames(out):
    out.section("Right checksums, wrong values")
    invalid, unused = "! The message is invalid: ", "! The message is invalid: bits that it does not use are set"
    for kind in (0, 32, 255):
        out.add(f"type {kind}", frame(kind), f"! No message has type {kind}")
    out.add("flag of 2", frame("Bye", flag=2), invalid + "its flag is neither 0 nor 1")
    out.add("refusal 0", frame("Refuse"), invalid + "no refusal has its code")
    out.add("refusal 18", frame("Refuse", code=18), invalid + "no refusal has its code")
    out.add("role 3", frame("RoleIs", code=3), invalid + "no role has its code")
    out.add("outcome 4", frame("WriteAck", code=4, id=1), invalid + "no outcome has its code")
    out.add("zeroes of kind 4", frame("WriteZero", code=4, id=1, start=0, sectors=1),
            invalid + "no kind of zeroes has its code")
    out.add("skipped write", frame("WriteAck", code=3, id=1),
            invalid + "only a request of resync or verify can be skipped")
    out.add("ping with an id", frame("Ping", id=1), unused)
    out.add("ping with a version", frame("Ping", protocol=(1, 1)), unused)
    out.add("flush with a span", frame("Flush", id=1, start=8, sectors=8), unused)
    out.add("ping with something at the end", frame("Ping", spare=b"\0\0\0\0\0\0\0\1"), unused)
    out.add("ping with the checksum of a payload", frame("Ping", payload_crc=1), unused)
    out.add("ping with the checksum of an extension", frame("Ping", extension_crc=1), unused)
    out.add("state with an id", frame("State", id=1, extension=state()), unused)
    out.add("hello, discard 2", frame("Hello", protocol=(1, 1), extension=hello(discard=2)), unused)
    out.add("state, base without its flag", frame("State", extension=state(base=C)), unused)
    out.add("state, unknown flag", frame("State", extension=state(more_flags=2)), unused)
    out.add("state, disk 7", frame("State", extension=state(disk=7)), invalid + "no disk state has its code")
    mark = "its watermark is higher than any real one"
    out.add("state, endless mark", frame("State", extension=state(marks=(U64, 0))), invalid + mark)
    out.add("state, endless mark of the peer", frame("State", extension=state(marks=(0, 2**62 + 1))), invalid + mark)
    out.add("endless mark", frame("Mark", id=2**62 + 1), invalid + mark)
    policy = invalid + "no policy has its code"
    out.add("state, no policy", frame("State", extension=state(policies=(1, 1, 1, 0))), policy)
    out.add("state, policy 8", frame("State", extension=state(policies=(8, 1, 1, 1))), policy)
    out.add("state, role 0", frame("State", extension=state(role=0)), invalid + "no role has its code")
    out.add("state, endless history", frame("State", extension=state(count=U64)),
            invalid + "the history is longer than a history can be")
    out.add("state, history of one more", frame("State", extension=state(count=17)),
            invalid + "the history is longer than a history can be")
    out.add("state, history longer than its count", frame("State", extension=state(count=1)), unused)
    out.add("state, history that repeats itself", frame("State", extension=state(past=(B, B))),
            invalid + "the history lists a generation twice")


# Metadata.

DATA_BLOCKS = 16317
SECTORS = DATA_BLOCKS * 8
AT = {"superblock 0": 16317, "page 0": 16318, "al 0": 16319, "superblock 1": 16383}


def address(place):
    kind, number = place.split()
    return (AT.get(place) or AT[f"{kind} 0"] + int(number)) * 4096


def block(place, payload, sequence, kind=None, volume=VOLUME, node=1, at=None, version=1, payload_bytes=None,
          magic=b"rblkmeta", spare=b"", crc=None):
    kind = {"superblock": 1, "al": 2, "page": 3}[place.split()[0]] if kind is None else kind
    head = magic + struct.pack("<HBBI", version, kind, node, len(payload) if payload_bytes is None else payload_bytes)
    head += u128(volume) + struct.pack("<QQ", address(place) if at is None else at, sequence)
    head += spare.rjust(76, b"\0")
    body = payload.ljust(3968, b"\0")
    crc = crc32c(head + bytes(4) + body) if crc is None else crc
    whole = head + struct.pack("<I", crc) + body
    assert len(whole) == 4096
    return whole


def superblock(usable=SECTORS, agreed=0, instance=1, flags=0, marks=(0, 0), current=0, base=0, past=(), count=None):
    numbers = struct.pack("<QQQQQQ", usable, agreed, instance, flags, *marks)
    return numbers + u128(current) + u128(base) + history(past, count)


def superblock_text(sequence, current="None", base="None", past="", agreed=0, instance=1, flags="0000000",
                    marks=(0, 0)):
    names = ("consistent", "outdated", "peer_outdated", "sole_source", "primary", "crashed", "parted_primary")
    flags = ", ".join(f"{name}: {'true' if flag == '1' else 'false'}" for name, flag in zip(names, flags))
    return (
        f"Superblock {{ sequence: {sequence}, volume: {VOLUME:032X}, node: NodeId(1), "
        f"usable_sectors: {SECTORS}, agreed_sectors: {agreed}, current: {current}, base: {base}, "
        f"history: [{past}], {flags}, instance: {instance}, "
        f"mark: {marks[0]}, peer_mark: {marks[1]} }}"
    )


def al(*extents):
    return struct.pack(f"<{len(extents)}I", *extents)


def good_blocks(out):
    out.section("What each block looks like")
    fresh = superblock()
    out.add("superblock 0 fresh", block("superblock 0", fresh, 1), superblock_text(1))
    out.add("superblock 1 fresh", block("superblock 1", fresh, 1), superblock_text(1))
    alone = superblock(agreed=SECTORS, instance=7, flags=0b110110111, marks=(8, 9), current=A, base=B, past=(B, C))
    out.add("superblock 0 Primary on its own", block("superblock 0", alone, 2**62),
            superblock_text(2**62, "Some(AAAAAAAA)", "Some(BBBBBBBB)", "BBBBBBBB, CCCCCCCC", SECTORS, 7, "1011101",
                            (8, 9)))
    out.add("al 5 as created", block("al 5", b"", 5), "AlTransaction { sequence: 5, extents: [] }")
    out.add("al 1 in any order", block("al 1", al(3, 0, 15), 65),
            "AlTransaction { sequence: 65, extents: [3, 0, 15] }")
    out.add("page 0 clean", block("page 0", bytes(3968), 0), "0 bits set")
    full = b"\xff" * (DATA_BLOCKS // 8) + bytes([2 ** (DATA_BLOCKS % 8) - 1])
    out.add("page 0 full", block("page 0", full.ljust(3968, b"\0"), 9), f"{DATA_BLOCKS} bits set")


def damaged_blocks(out):
    out.section("Damaged or foreign")
    fresh, place = superblock(), "superblock 0"
    out.add("superblock 0 never written", bytes(4096),
            "! The block is all zeroes: no metadata was ever written here")
    out.add("superblock 0 ext4 or whatever", b"\x53\xef".ljust(4096, b"\0"),
            "! The block is not rblk metadata: wrong magic number")
    rotten = "! The checksum is wrong: the block was torn by a power cut or has decayed"
    out.add("superblock 0 one bit off", block(place, fresh, 1)[:-1] + b"\1", rotten)
    out.add("al 0 torn in the middle", block("al 0", al(*range(16)), 64)[:160] + block("al 0", b"", 128)[160:], rotten)
    out.add("superblock 0 checksum of zero", block(place, fresh, 1, crc=0), rotten)
    out.add("superblock 0 later version", block(place, fresh, 1, version=2),
            "! The block has format version 2, and this rblk reads version 1")
    out.add("superblock 0 other volume", block(place, fresh, 1, volume=1),
            "! The block belongs to volume 00000000000000000000000000000001")
    out.add("superblock 0 other node", block(place, fresh, 1, node=0), "! The block belongs to node 0")
    misdirected = "a misdirected write or a copied disk"
    out.add("superblock 0 in the place of copy 1", block("superblock 1", fresh, 1),
            f"! The block was written for byte {16383 * 4096}: {misdirected}")
    out.add("superblock 0 written for the end of the universe", block(place, fresh, 1, at=U64),
            f"! The block was written for byte {U64}: {misdirected}")
    out.add("al 3 from the next slot", block("al 4", b"", 4),
            f"! The block was written for byte {16323 * 4096}: {misdirected}")
    out.add("superblock 0 that is a bitmap page", block(place, fresh, 1, kind=3),
            "! The block holds a record of kind 3")
    out.add("superblock 0 of kind 0", block(place, fresh, 1, kind=0), "! The block holds a record of kind 0")


def invalid_blocks(out):
    out.section("Right checksums, wrong content")
    fresh, place, invalid = superblock(), "superblock 0", "! The content is invalid: "
    wrong = lambda name, payload, why, **more: out.add(
        f"superblock 0 {name}", block(place, payload, more.pop("sequence", 1), **more), invalid + why)
    unused = "bytes or flags without a use are not zero"
    counter = "a counter is higher than any real one"
    wrong("endless sequence", fresh, "its sequence is higher than any real one", sequence=U64)
    wrong("endless payload", fresh, "its payload is longer than a block", payload_bytes=U32)
    wrong("payload of one byte more than fits", fresh, "its payload is longer than a block", payload_bytes=3969)
    wrong("payload longer than it says", superblock(past=(B,)), "bytes without a use are not zero", payload_bytes=80)
    wrong("payload of a shorter superblock", fresh[:343], "not the length of a superblock")
    wrong("spare byte in the header", fresh, "bytes without a use are not zero", spare=b"\1")
    wrong("endless instance", superblock(instance=U64), counter)
    wrong("endless mark", superblock(marks=(U64, 0)), counter)
    wrong("endless mark of the peer", superblock(marks=(0, U64)), counter)
    wrong("unknown flag", superblock(flags=1 << 9), unused)
    wrong("generation without its flag", superblock(current=A), unused)
    wrong("endless history", superblock(flags=1, current=A, count=U64), "the history is longer than a history can be")
    wrong("history that repeats itself", superblock(flags=1, current=A, past=(B, C, B)),
          "the history lists a generation twice")
    nothing = "data without a generation cannot be consistent, tracked or have a past"
    wrong("consistent without a generation", superblock(flags=0b100), nothing)
    wrong("past without a generation", superblock(past=(B,)), nothing)
    wrong("base without a generation", superblock(flags=0b10, base=B), nothing)
    wrong("agreed on more than it has", superblock(agreed=SECTORS + 1), "the agreed size is larger than the disk")
    wrong("larger than its disk", superblock(usable=2**55), "it was made for a disk of another size")
    log = lambda name, payload, why, sequence=64: out.add(
        f"al 0 {name}", block("al 0", payload, sequence), invalid + why)
    log("extent outside", al(0, 16), "an extent lies outside the volume")
    log("extent far outside", al(U32), "an extent lies outside the volume")
    log("extent twice", al(4, 9, 4), "an extent is listed twice")
    log("half an extent", al(1)[:3], "part of an extent number")
    log("sequence of another slot", al(1), "its sequence belongs into another slot", 65)
    out.add("page 0 short", block("page 0", bytes(3967), 0), invalid + "not a whole page of bits")
    outside = "bits past the end of the data area are set"
    bit = lambda number: (1 << number).to_bytes(3968, "little")
    out.add("page 0 first bit outside", block("page 0", bit(DATA_BLOCKS), 0), invalid + outside)
    out.add("page 0 last bit of the page", block("page 0", bit(31743), 0), invalid + outside)


HEAD = """\
# Made by make.py, replayed by ../vectors.rs. {}
#
# name
#     bytes in hex; BYTE*COUNT is a run
#     = what it decodes to   or   ! why it does not
"""


def main():
    frames = File("frames.txt", HEAD.format("Frames: header and extension."))
    for part in (good_frames, version_frames, hostile_frames, invalid_frames):
        part(frames)
    frames.write()
    meta = File("meta.txt", HEAD.format(
        "Metadata blocks of a disk of 64 MiB.\n#\n"
        "# A name begins with the place: superblock COPY, al SLOT, page NUMBER."))
    for part in (good_blocks, damaged_blocks, invalid_blocks):
        part(meta)
    meta.write()


main()
