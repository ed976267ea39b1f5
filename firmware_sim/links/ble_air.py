"""The air between virtual radios: Bumble's link and controller, mended where a test bench needs it.

Bumble 0.0.236 falls short of a real radio in ways that a gateway would notice. Each is mended here, only here:

============================================================  =============================================
Bumble                                                        here
============================================================  =============================================
data leave with the random address even from a public one,    `Air.send_acl_data` sends from the
so that no answer ever arrives                                connection's own address
data arrive at once, without connection events                `Air` delivers at connection events, which
                                                              may fail (delay, never loss of data)
a control packet to a radio that is gone raises               `Air` drops it
LE Create Connection Cancel does nothing, so that after       `VirtualController` cancels
one time-out the radio refuses every connection
the scan response repeats the advertising data, also in a     `VirtualController` reports the
passive scan                                                  advertiser's own, in active scans only
data for a connection that ended a moment ago are warned of   `VirtualController` and `Air` drop them
every log line is formatted although nobody reads it          `quieten` makes packets print as their
                                                              name unless debugging is on
============================================================  =============================================
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from bumble import att, colors, controller, core, device, gatt_client, gatt_server, hci, host, l2cap, link, ll

ACL_PACKET_BYTES = 251
"""The largest data packet of a Bluetooth 4.2 controller; Bumble's 27 cuts a notification in ten."""

_BYTES_PER_EVENT = 4 * ACL_PACKET_BYTES
_logger = logging.getLogger("bumble")


class VirtualController(controller.Controller):
    """One radio in the air, with the host above it at `host_sink`."""

    link: Air

    def __init__(self, name: str, air: Air, *, public_address: hci.Address | None = None) -> None:
        super().__init__(name, link=air, public_address=public_address)
        self.le_acl_data_packet_length = ACL_PACKET_BYTES

    def scan_response(self, address: hci.Address) -> bytes:
        """Return what it answers to a scanner that asks for more about its advertiser `address`."""
        for advertiser in self.advertising_sets.values():
            if advertiser.enabled and advertiser.address == address:
                return bytes(advertiser.scan_response_data)
        return b""

    def on_le_disconnected(self, connection: controller.Connection, reason: int) -> None:
        """End a connection and what is under way on it."""
        self.link.forget(connection)
        super().on_le_disconnected(connection, reason)

    def on_hci_acl_data_packet(self, packet: hci.HCI_AclDataPacket) -> None:
        """Send data, unless the host has not yet heard that their connection has ended."""
        if self.find_connection_by_handle(packet.connection_handle) is not None:
            super().on_hci_acl_data_packet(packet)

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Cancel; the host is told that the connection failed (Core 5.4, Vol 4, Part E, 7.8.13)."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        failed = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, failed)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_le_set_extended_scan_parameters_command(
        self, command: hci.HCI_LE_Set_Extended_Scan_Parameters_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Take note whether the scan is active."""
        self.le_scan_type = command.scan_types[0]
        return super().on_hci_le_set_extended_scan_parameters_command(command)

    def on_advertising_pdu(self, pdu: ll.AdvInd | ll.AdvExtInd) -> None:
        """Report an advertisement, in an active scan with its scan response; connect if that was asked for."""
        event_types = hci.HCI_LE_Extended_Advertising_Report_Event.EventType
        if self.le_scan_enable:
            connectable = event_types.CONNECTABLE_ADVERTISING | event_types.SCANNABLE_ADVERTISING
            self._report(pdu.advertiser_address, connectable, pdu.data)
            advertiser = self.link.find_le_controller(pdu.advertiser_address)
            if self.le_scan_type and isinstance(advertiser, VirtualController):
                response = advertiser.scan_response(pdu.advertiser_address)
                self._report(pdu.advertiser_address, event_types.SCAN_RESPONSE, response)
        if (pending := self.pending_le_connection) and pending.peer_address == pdu.advertiser_address:
            self.create_le_connection(pdu.advertiser_address)

    def _report(self, address: hci.Address, event_type: int, data: bytes) -> None:
        report = hci.HCI_LE_Extended_Advertising_Report_Event.Report(
            event_type=event_type,
            address_type=address.address_type,
            address=address,
            primary_phy=hci.Phy.LE_1M,
            secondary_phy=hci.Phy.LE_1M,
            advertising_sid=0,
            tx_power=127,
            rssi=-50,
            periodic_advertising_interval=0,
            direct_address_type=0,
            direct_address=hci.Address.ANY,
            data=data,
        )
        self.send_hci_packet(hci.HCI_LE_Extended_Advertising_Report_Event([report]))


@dataclass(slots=True)
class _Lane:
    """Data on their way along one connection, in one direction; `phase`, 0 to 1, places its events."""

    sender: controller.Controller
    receiver: controller.Controller
    source: hci.Address
    phase: float
    packets: deque[bytes] = field(default_factory=deque)
    closed: bool = False


class Air(link.LocalLink):
    """What all virtual radios share.

    Parameters
    ----------
    connection_interval_s
        Real seconds between connection events; 0 delivers at once.
    event_loss
        Probability that a connection event fails; its data follow at the next one.
    seed
        Of the failures.
    """

    def __init__(self, *, connection_interval_s: float = 0.0, event_loss: float = 0.0, seed: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._muted: set[controller.Controller] = set()
        self._interval_s = connection_interval_s
        self._event_loss = event_loss
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._lanes: dict[int, _Lane] = {}

    def send_acl_data(
        self,
        sender_controller: controller.Controller,
        destination_address: hci.Address,
        transport: core.PhysicalTransport,
        data: bytes,
    ) -> None:
        """Take a packet to the peer, at once or at the connection's next event."""
        del transport
        connection = sender_controller.le_connections.get(destination_address)
        if connection is None:
            return
        lane = self._lanes.get(id(connection))
        if lane is None:
            receiver = self.find_le_controller(destination_address)
            if receiver is None:
                return
            phase = self._random.random()
            lane = _Lane(sender_controller, receiver, connection.self_address, phase)
            self._lanes[id(connection)] = lane
        lane.packets.append(data)
        if len(lane.packets) == 1:
            self._schedule(lane)

    def send_advertising_pdu(self, sender_controller: controller.Controller, packet: ll.AdvertisingPdu) -> None:
        """Let those hear an advertisement who scan, connect or are addressed."""
        if sender_controller in self._muted:
            return
        loop = asyncio.get_running_loop()
        for receiver in self.controllers - self._muted - {sender_controller}:
            if isinstance(packet, ll.ConnectInd) or receiver.le_scan_enable or receiver.pending_le_connection:
                loop.call_soon(receiver.on_ll_advertising_pdu, packet)

    def send_ll_control_pdu(
        self, sender_address: hci.Address, receiver_address: hci.Address, packet: ll.ControlPdu
    ) -> None:
        """Take a control packet to its receiver if that is still there."""
        ends = {self.find_le_controller(sender_address), self.find_le_controller(receiver_address)}
        if None not in ends and not ends & self._muted:
            super().send_ll_control_pdu(sender_address, receiver_address, packet)

    def mute(self, radio: controller.Controller) -> None:
        """Let nothing pass to or from a radio, and tell nobody."""
        self._muted.add(radio)

    def unmute(self, radio: controller.Controller) -> None:
        """Let a radio be heard again; it finds out which peers have given it up."""
        self._muted.discard(radio)
        for connection in list(radio.le_connections.values()):
            peer = self.find_le_controller(connection.peer_address)
            if peer is None or connection.self_address not in peer.le_connections:
                radio.on_le_disconnected(connection, hci.HCI_CONNECTION_TIMEOUT_ERROR)

    def lose_links(self, of: controller.Controller) -> None:
        """End every connection of a radio as a supervision time-out does: both ends see reason 0x08."""
        for connection in list(of.le_connections.values()):
            peer = self.find_le_controller(connection.peer_address)
            of.on_le_disconnected(connection, hci.HCI_CONNECTION_TIMEOUT_ERROR)
            if peer is not None and (back := peer.le_connections.get(connection.self_address)):
                peer.on_le_disconnected(back, hci.HCI_CONNECTION_TIMEOUT_ERROR)

    def remove_controller(self, controller: controller.Controller) -> None:
        """Take a radio away, its connections first."""
        self.lose_links(controller)
        super().remove_controller(controller)

    def forget(self, connection: controller.Connection) -> None:
        """Drop what is under way on a connection that has ended."""
        if lane := self._lanes.pop(id(connection), None):
            lane.closed = True

    def _schedule(self, lane: _Lane) -> None:
        loop = asyncio.get_running_loop()
        if not self._interval_s:
            loop.call_soon(self._deliver, lane)
            return
        phase_s = lane.phase * self._interval_s
        next_event = (loop.time() - phase_s) // self._interval_s + 1
        loop.call_at(next_event * self._interval_s + phase_s, self._deliver, lane)

    def _deliver(self, lane: _Lane) -> None:
        """Hand over what fits into one connection event."""
        failed = self._event_loss and self._random.random() < self._event_loss
        budget = 0 if failed else _BYTES_PER_EVENT
        while lane.packets and budget > 0 and not lane.closed:
            data = lane.packets.popleft()
            budget -= len(data)
            heard = not {lane.sender, lane.receiver} & self._muted
            if heard and lane.source in lane.receiver.le_connections:
                lane.receiver.on_link_acl_data(lane.source, core.PhysicalTransport.LE, data)
        if lane.packets and not lane.closed:
            self._schedule(lane)


def quieten() -> None:
    """Make Bumble's packets print as their class name, and uncoloured, unless its debug log is read."""
    for root in (hci.HCI_Packet, att.ATT_PDU, l2cap.L2CAP_PDU, l2cap.L2CAP_Control_Frame, device.Connection):
        _quieten_class(root)
    for module in (controller, device, gatt_client, gatt_server, host, l2cap):
        vars(module)["color"] = _color


def _quieten_class(kind: type[Any]) -> None:
    for subclass in kind.__subclasses__():
        _quieten_class(subclass)
    verbose = kind.__dict__.get("__str__")
    if verbose is None or hasattr(verbose, "quiet"):
        return

    def brief(self: object) -> str:
        return str(verbose(self)) if _logger.isEnabledFor(logging.DEBUG) else kind.__name__

    brief.quiet = True  # type: ignore[attr-defined]
    kind.__str__ = brief  # type: ignore[assignment]


def _color(text: str, *style: str, **styles: str) -> str:
    return colors.color(text, *style, **styles) if _logger.isEnabledFor(logging.DEBUG) else text
