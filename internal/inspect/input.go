package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Decode returns the octets that a file holds in a form: "raw", "hex",
// "base64", or "auto", which takes hexadecimal digits or base64 for what they
// say and everything else as it is. Whitespace inside does not count.
func Decode(file []byte, form string) ([]byte, error) {
	switch form {
	case "raw":
		return file, nil
	case "hex":
		b, err := hex.DecodeString(string(squeeze(file)))
		if err != nil {
			return nil, fmt.Errorf("inspect: %w", err)
		}
		return b, nil
	case "base64":
		b, err := decodeBase64(squeeze(file))
		if err != nil {
			return nil, fmt.Errorf("inspect: %w", err)
		}
		return b, nil
	case "auto":
		text := squeeze(file)
		if len(text) == 0 {
			return file, nil
		}
		if b, err := hex.DecodeString(string(text)); err == nil {
			return b, nil
		}
		if b, err := decodeBase64(text); err == nil {
			return b, nil
		}
		return file, nil
	}
	return nil, fmt.Errorf("inspect: unknown form %q", form)
}

// decodeBase64 takes either alphabet of RFC 4648, with or without padding.
func decodeBase64(text []byte) ([]byte, error) {
	text = bytes.TrimRight(text, "=")
	text = bytes.Map(func(r rune) rune {
		switch r {
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return r
	}, text)
	return base64.RawStdEncoding.AppendDecode(nil, text)
}

// squeeze drops whitespace.
func squeeze(b []byte) []byte { return bytes.Join(bytes.Fields(b), nil) }
