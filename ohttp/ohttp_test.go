package ohttp

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of RFC 9458 Appendix A.
func TestRFC9458Example(t *testing.T) {
	private, err := hpke.DHKEM(ecdh.X25519()).NewPrivateKey(unhex(t, "3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a"))
	if err != nil {
		t.Fatal(err)
	}
	keys := Keys{{1, private}}
	// The example's configuration offers two AEADs, ours three.
	config := unhex(t, "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003")
	if got := keys.Marshal(); !bytes.Equal(got[2:2+35], config[:35]) {
		t.Errorf("key configuration %x", got)
	}
	k, err := ParseKeys(append([]byte{0, byte(len(config))}, config...))
	if err != nil || k.id != 1 || k.aead.id != 1 || !bytes.Equal(k.public.Bytes(), private.PublicKey().Bytes()) {
		t.Fatalf("%+v, %v", k, err)
	}
	request, x, err := keys.Decapsulate(unhex(t, "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b472"+
		"6374e469135906992e1268c594d2a10c695d858c40a026e7965e7d86b83dd440b2c0185204b4d63525"))
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, "00034745540568747470730b6578616d706c652e636f6d012f"); !bytes.Equal(request, want) {
		t.Errorf("request %x, want %x", request, want)
	}
	r, err := UnmarshalRequest(request)
	if want := (&Request{Method: "GET", Scheme: "https", Authority: "example.com", Path: "/"}); err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("%+v, %v", r, err)
	}
	response, err := x.Seal(bytes.NewReader(unhex(t, "c789e7151fcba46158ca84b04464910d")), unhex(t, "0140c8"))
	if want := unhex(t, "c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd"); err != nil || !bytes.Equal(response, want) {
		t.Errorf("response %x, %v, want %x", response, err, want)
	}
	opened, err := x.Open(response)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := UnmarshalResponse(opened); err != nil || got.Status != 200 {
		t.Errorf("%+v, %v", got, err)
	}
}

func testKeys(t testing.TB, ids ...uint8) Keys {
	var ks Keys
	for _, id := range ids {
		k, err := DeriveKey(id, bytes.Repeat([]byte{id}, 32))
		if err != nil {
			t.Fatal(err)
		}
		ks = append(ks, k)
	}
	return ks
}

func TestExchange(t *testing.T) {
	keys := testKeys(t, 7, 6)
	k, err := ParseKeys(keys.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range aeads {
		k.aead = a
		message, x, err := k.Encapsulate([]byte("request"))
		if err != nil {
			t.Fatal(err)
		}
		request, y, err := keys.Decapsulate(message)
		if err != nil || string(request) != "request" {
			t.Fatalf("%q, %v", request, err)
		}
		answer, err := y.Seal(rand.Reader, []byte("response"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := x.Open(answer)
		if err != nil || string(response) != "response" {
			t.Fatalf("%q, %v", response, err)
		}
		// Nothing that is changed on the way is taken.
		for i := range message {
			changed := bytes.Clone(message)
			changed[i] ^= 1
			if _, _, err := keys.Decapsulate(changed); !errors.Is(err, ErrOpen) && !errors.Is(err, ErrKey) {
				t.Errorf("octet %d of the request changed: %v", i, err)
			}
		}
		for i := range answer {
			changed := bytes.Clone(answer)
			changed[i] ^= 1
			if _, err := x.Open(changed); !errors.Is(err, ErrOpen) {
				t.Errorf("octet %d of the response changed: %v", i, err)
			}
		}
		for i := range message {
			if _, _, err := keys.Decapsulate(message[:i]); err == nil {
				t.Errorf("%d octets of a request were taken", i)
			}
		}
		// The response belongs to its request.
		_, other, err := k.Encapsulate([]byte("request"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Open(answer); !errors.Is(err, ErrOpen) {
			t.Errorf("another exchange opens the response: %v", err)
		}
	}
	message, _, err := k.Encapsulate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := testKeys(t, 6).Decapsulate(message); !errors.Is(err, ErrKey) {
		t.Errorf("a key that is gone: %v", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	keys := testKeys(t, 7)
	k, err := ParseKeys(keys.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	_, x, err := k.Encapsulate(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v", keys[0], keys[0], keys[0]), fmt.Sprintf("%v %+v %#v", x, x, x)} {
		if strings.Contains(s, fmt.Sprint(x.secret[0])+" ") || len(s) > 60 {
			t.Errorf("prints %s", s)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	good := testKeys(t, 1).Marshal()
	if _, err := ParseKeys(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := ParseKeys(good[:i]); !errors.Is(err, ErrKeys) {
			t.Errorf("%d octets: %v", i, err)
		}
	}
	unknown := bytes.Clone(good)
	unknown[4] = 0x10 // another KEM
	if _, err := ParseKeys(unknown); !errors.Is(err, ErrKeys) {
		t.Error(err)
	}
	if k, err := ParseKeys(append(unknown, good...)); err != nil || k.id != 1 {
		t.Errorf("a key after one of another kind: %v", err)
	}
	if _, err := DeriveKey(1, make([]byte, 31)); err == nil {
		t.Error("a short secret was taken")
	}
}

// Known and indeterminate lengths, truncation and padding (RFC 9292 §3, §5).
func TestBinaryHTTP(t *testing.T) {
	get := &Request{Method: "GET", Scheme: "https", Authority: "www.example.com", Path: "/hello.txt",
		Header: []Field{{"user-agent", "curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"}, {"host", "www.example.com"}, {"accept-language", "en, mi"}}}
	// The examples of RFC 9292 §5.1.
	indeterminate := unhex(t, "02034745540568747470730f7777772e6578616d706c652e636f6d0a2f68656c6c6f2e747874"+
		"0a757365722d6167656e74346375726c2f372e31362e33206c69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e33"+
		"04686f73740f7777772e6578616d706c652e636f6d0f6163636570742d6c616e677561676506656e2c206d69000000")
	r, err := UnmarshalRequest(indeterminate)
	if err != nil || !reflect.DeepEqual(r, get) {
		t.Errorf("%+v, %v", r, err)
	}
	known := get.Marshal(0)
	if want := unhex(t, "00034745540568747470730f7777772e6578616d706c652e636f6d0a2f68656c6c6f2e747874406c"); !bytes.HasPrefix(known, want) {
		t.Errorf("encoded as %x", known)
	}
	for _, b := range [][]byte{known, known[:len(known)-1], known[:len(known)-2], get.Marshal(512), indeterminate[:len(indeterminate)-1]} {
		if r, err := UnmarshalRequest(b); err != nil || !reflect.DeepEqual(r, get) {
			t.Errorf("%d octets: %+v, %v", len(b), r, err)
		}
	}
	if n := len(get.Marshal(512)); n != 512 {
		t.Errorf("padded to %d", n)
	}
	// A response after informational ones, in chunks, with a trailer.
	var b []byte
	b = append(b, indeterminateResponse)
	b = appendVarint(b, 103)
	b = appendString(appendString(b, "link"), "</style.css>")
	b = append(b, 0)
	b = appendVarint(b, 206)
	b = appendString(appendString(b, "etag"), `"x"`)
	b = append(b, 0)
	b = appendString(appendString(b, "hello, "), "world")
	b = append(b, 0)
	b = appendString(appendString(b, "trailer"), "x")
	b = append(b, 0, 0, 0)
	resp, err := UnmarshalResponse(b)
	if want := (&Response{Status: 206, Header: []Field{{"etag", `"x"`}}, Content: []byte("hello, world")}); err != nil || !reflect.DeepEqual(resp, want) {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestBinaryHTTPRefuses(t *testing.T) {
	field := func(name, value string) []byte {
		return (&Request{Method: "GET", Header: []Field{{name, value}}}).Marshal(0)
	}
	many := make([]Field, maxFields+1)
	for i := range many {
		many[i] = Field{"a", "b"}
	}
	for _, tc := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrTruncated},
		{"response", []byte{1, 0x40, 200}, ErrFraming},
		{"unknown framing", []byte{4}, ErrFraming},
		{"huge length", []byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ErrTruncated},
		{"no method", (&Request{}).Marshal(0), ErrField},
		{"method with a space", (&Request{Method: "GET /"}).Marshal(0), ErrField},
		{"upper case name", field("Host", "x"), ErrField},
		{"name with a colon", field("a:b", "x"), ErrField},
		{"pseudo header", field(":path", "x"), ErrField},
		{"line break", field("a", "x\r\nb: c"), ErrField},
		{"empty name", field("", "x"), ErrField},
		{"many fields", (&Request{Method: "GET", Header: many}).Marshal(0), ErrTooMany},
		{"padding", append((&Request{Method: "GET"}).Marshal(64), 1), ErrPadding},
	} {
		if _, err := UnmarshalRequest(tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	for _, status := range []uint64{0, 99, 600, 1 << 40} {
		b := appendVarint([]byte{knownResponse}, status)
		if _, err := UnmarshalResponse(append(b, 0)); !errors.Is(err, ErrStatus) {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestBinaryHTTPRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Field {
			return Field{rapid.StringMatching(`[a-z][a-z0-9-]{0,10}`).Draw(t, "name"), rapid.StringMatching(`[ -~]{0,70}`).Draw(t, "value")}
		}), 0, 5)
		nilIfEmpty := func(f []Field) []Field {
			if len(f) == 0 {
				return nil
			}
			return f
		}
		req := &Request{Method: "GET", Scheme: "https", Authority: rapid.String().Draw(t, "authority"), Path: rapid.String().Draw(t, "path"),
			Header: nilIfEmpty(fields.Draw(t, "header")), Content: rapid.SliceOfN(rapid.Byte(), 1, 20000).Draw(t, "content")}
		if got, err := UnmarshalRequest(req.Marshal(rapid.IntRange(0, 300).Draw(t, "pad"))); err != nil || !reflect.DeepEqual(got, req) {
			t.Fatalf("%+v, %v", got, err)
		}
		resp := &Response{Status: rapid.IntRange(200, 599).Draw(t, "status"), Header: req.Header, Content: req.Content}
		if got, err := UnmarshalResponse(resp.Marshal()); err != nil || !reflect.DeepEqual(got, resp) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

// Whatever is accepted means the same after encoding it again. (The encoding
// leaves choices: lengths of integers, framing, padding, truncation.)
func FuzzRequest(f *testing.F) {
	f.Add((&Request{Method: "GET", Scheme: "https", Authority: "a.example", Path: "/", Header: []Field{{"range", "bytes=0-1"}}}).Marshal(64))
	f.Add([]byte{2, 3, 'G', 'E', 'T', 0, 0, 0, 1, 'a', 1, 'b', 0, 1, 'c', 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := UnmarshalRequest(b)
		if err != nil {
			return
		}
		again, err := UnmarshalRequest(r.Marshal(0))
		if err != nil || !bytes.Equal(r.Marshal(0), again.Marshal(0)) {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add((&Response{Status: 206, Header: []Field{{"etag", "x"}}, Content: []byte("abc")}).Marshal())
	f.Add([]byte{3, 0x40, 103, 0, 0x40, 200, 1, 'a', 1, 'b', 0, 1, 'c', 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := UnmarshalResponse(b)
		if err != nil {
			return
		}
		again, err := UnmarshalResponse(r.Marshal())
		if err != nil || !bytes.Equal(r.Marshal(), again.Marshal()) {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(testKeys(f, 1, 2).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKeys(b); err == nil {
			_, _, _ = k.Encapsulate([]byte("x")) // a point of low order is refused here
		}
	})
}
