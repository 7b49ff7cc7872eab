package ask

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"casemate.dev/internal/secret"
)

// EncodeBegin, EncodeReady and EncodeRequest make packets. What a peer would refuse is an error here.
func EncodeBegin(m Begin) ([]byte, error)     { return encode(m, m.check()) }
func EncodeReady(m Ready) ([]byte, error)     { return encode(m, m.check()) }
func EncodeRequest(m Request) ([]byte, error) { return encode(m, m.check()) }

// DecodeBegin, DecodeReady and DecodeRequest read packets of a peer who may have been taken over: nothing unknown, nothing longer than it may be.
func DecodeBegin(packet []byte) (Begin, error) {
	var m Begin
	err := decode(packet, &m, m.check)
	return m, err
}

func DecodeReady(packet []byte) (Ready, error) {
	var m Ready
	err := decode(packet, &m, m.check)
	return m, err
}

func DecodeRequest(packet []byte) (Request, error) {
	var m Request
	err := decode(packet, &m, m.check)
	return m, err
}

// EncodeReply makes a packet that may hold a value: the caller clears it once it is sent. The value goes through no buffer of package json, which keeps them.
func EncodeReply(m Reply) ([]byte, error) {
	n := m.Value.Len()
	if err := m.check(n != 0); err != nil {
		return nil, err
	}
	head, err := encode(m, nil)
	if err != nil || n == 0 {
		return head, err
	}
	const field = `,"value":"`
	packet := make([]byte, 0, len(head)+len(field)+base64.StdEncoding.EncodedLen(n)+1) // never grown: that would leave a copy
	err = m.Value.Use(func(value []byte) error {
		packet = append(append(packet, head[:len(head)-1]...), field...)
		packet = append(base64.StdEncoding.AppendEncode(packet, value), `"}`...)
		return nil
	})
	if err == nil && len(packet) > MaxMessage {
		err = tooLong()
	}
	if err != nil {
		clear(packet)
		return nil, err
	}
	return packet, nil
}

// DecodeReply reads a reply, and overwrites the packet. The Value is the caller's to wipe.
func DecodeReply(packet []byte) (Reply, error) {
	defer clear(packet)
	var m struct {
		Reply
		Value []byte `json:"value"`
	}
	defer func() { clear(m.Value) }()
	if len(packet) > MaxMessage {
		return Reply{}, tooLong()
	}
	if json.Unmarshal(packet, &m) != nil { // and no Decoder, which would read the packet into a buffer of its own
		return Reply{}, errForeign
	}
	if err := m.Reply.check(len(m.Value) != 0); err != nil {
		return Reply{}, err
	}
	if len(m.Value) == 0 {
		return m.Reply, nil
	}
	var err error
	m.Reply.Value, err = secret.New(m.Value)
	return m.Reply, err
}

var errForeign = errors.New("a message is none of this version of casemate")

func tooLong() error { return fmt.Errorf("a message is longer than %d bytes", MaxMessage) }

func encode(m any, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(m)
	if err == nil && len(b) > MaxMessage {
		return nil, tooLong()
	}
	return b, err
}

// decode never quotes the packet in an error: it may hold a value.
func decode(packet []byte, m any, check func() error) error {
	if len(packet) > MaxMessage {
		return tooLong()
	}
	d := json.NewDecoder(bytes.NewReader(packet))
	d.DisallowUnknownFields()
	if d.Decode(m) != nil {
		return errForeign
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows a message")
	}
	return check()
}
