package wire

import "fmt"

// Type is the MQTT Control Packet type, bits 7-4 of the fixed header.
type Type byte

// The control packets of MQTT 5, section 2.1.2.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

var typeNames = [16]string{
	"unknown", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("Type(%d)", byte(t))
}

// Reason codes that this module sends or handles, section 2.4.
const (
	ReasonSuccess                  byte = 0x00
	ReasonDisconnectWithWill       byte = 0x04
	ReasonNoMatchingSubscribers    byte = 0x10
	ReasonUnspecifiedError         byte = 0x80
	ReasonMalformedPacket          byte = 0x81
	ReasonProtocolError            byte = 0x82
	ReasonImplementationSpecific   byte = 0x83
	ReasonBadUserNameOrPassword    byte = 0x86
	ReasonNotAuthorized            byte = 0x87
	ReasonBadAuthenticationMethod  byte = 0x8C
	ReasonKeepAliveTimeout         byte = 0x8D
	ReasonSessionTakenOver         byte = 0x8E
	ReasonTopicNameInvalid         byte = 0x90
	ReasonPacketIDInUse            byte = 0x91
	ReasonPacketIDNotFound         byte = 0x92
	ReasonReceiveMaximumExceeded   byte = 0x93
	ReasonTopicAliasInvalid        byte = 0x94
	ReasonPacketTooLarge           byte = 0x95
	ReasonMessageRateTooHigh       byte = 0x96
	ReasonQuotaExceeded            byte = 0x97
	ReasonPayloadFormatInvalid     byte = 0x99
	ReasonRetainNotSupported       byte = 0x9A
	ReasonQoSNotSupported          byte = 0x9B
	ReasonServerMoved              byte = 0x9D
	ReasonSharedSubsNotSupported   byte = 0x9E
	ReasonSubIDsNotSupported       byte = 0xA1
	ReasonWildcardSubsNotSupported byte = 0xA2
)

// MaxPacketSize is the maximum size of a packet: a fixed header of 5 bytes and 268,435,455 further
// bytes.
const MaxPacketSize = 5 + maxVarint
