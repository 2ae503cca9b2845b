package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// stranger is a domain that nobody here can speak for (RFC 2606).
const stranger = "stranger.example"

func encode(v tlspl.Coder) []byte {
	b, err := tlspl.Marshal(v)
	if err != nil {
		panic(err) // our own structs
	}
	return b
}

// query looks for somebody who isn't there.
func (c *checker) query() []byte {
	return encode(&mimi.IdentifierRequest{QueryElements: []mimi.QueryElement{{SearchType: mimi.SearchHandle, SearchValue: c.random}}})
}

func (c *checker) transport() {
	const key = "identifierQuery"
	c.refused("§4.1", "a request without a client certificate", federation.RawRequest{Endpoint: key, Body: c.query(), Anonymous: true}, 403, 401, 400)
	c.refused("Decision 8", "GET where POST is due", federation.RawRequest{Endpoint: key, Change: func(r *http.Request) {
		r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
	}}, 405, 404)
	c.refused("Decision 8", "a path that is no endpoint", federation.RawRequest{Endpoint: key, Body: c.query(), Change: func(r *http.Request) {
		r.URL.Path, r.URL.RawPath = "/"+c.random, ""
	}}, 404)
	c.refused("§4.1", "a Host that is somebody else", federation.RawRequest{Endpoint: key, Body: c.query(), Change: func(r *http.Request) { r.Host = stranger }}, 421, 400, 403, 404)
	c.refused("Decision 10", "a compressed body", federation.RawRequest{Endpoint: key, Body: c.query(), Change: func(r *http.Request) {
		r.Header.Set("Content-Encoding", "gzip")
	}}, 415, 400)
	c.large()
}

// large announces a gibibyte and sends a little of it: it must be refused at
// once, not waited for.
func (c *checker) large() {
	const section, check = "Decision 10", "a body of a gibibyte"
	ctx, cancel := context.WithTimeout(c.ctx, slow)
	defer cancel()
	if !c.offered["identifierQuery"] {
		c.say(Skip, section, check, "identifierQuery is not offered")
		return
	}
	body := &endless{ctx: ctx}
	a, err := c.Client.Raw(ctx, c.Target, federation.RawRequest{Endpoint: "identifierQuery", Variables: c.variables(), Change: func(r *http.Request) {
		r.Body, r.ContentLength, r.GetBody = body, 1<<30, nil
	}})
	switch {
	case err == nil:
		c.judge(section, check, a, 413, 400, 431)
	case ctx.Err() != nil:
		c.say(Fail, section, check, "it still waited for the rest after %v", slow)
	default:
		c.say(Warn, section, check, "the connection was closed without an answer: %v", err)
	}
}

// endless gives 64 KiB and then nothing until ctx ends.
type endless struct {
	ctx  context.Context
	sent int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.sent < 64<<10 {
		n := min(len(p), 64<<10-e.sent)
		clear(p[:n])
		e.sent += n
		return n, nil
	}
	<-e.ctx.Done()
	return 0, io.ErrUnexpectedEOF
}

func (e *endless) Close() error { return nil }

// impersonation sends what is good but for who says so.
func (c *checker) impersonation() {
	const key = "identifierQuery"
	for _, from := range []struct{ check, value string }{
		{"From names a provider that the certificate doesn't", "mimi@" + stranger},
		{"no From", ""},
		{"From that is no mimi@domain", "somebody@" + string(c.Own)},
		{"From in another case", "mimi@" + strings.ToUpper(string(c.Own))},
	} {
		want := []int{400, 403, 401}
		if strings.HasSuffix(from.value, stranger) {
			want = []int{403, 401, 400}
		}
		c.refused("§4.1", from.check, federation.RawRequest{Endpoint: key, Body: c.query(), Change: func(r *http.Request) {
			r.Header.Del("From")
			if from.value != "" {
				r.Header.Set("From", from.value)
			}
		}}, want...)
	}
}

// syntax sends bodies that can't be parsed to every endpoint.
func (c *checker) syntax() {
	for _, key := range []string{"keyMaterial", "update", "submitMessage", "groupInfo", "requestConsent", "updateConsent", "identifierQuery", "reportAbuse"} {
		if !c.offered[key] {
			continue
		}
		c.refused("Decision 9", key+": an empty body", federation.RawRequest{Endpoint: key}, 400, 404, 422)
		c.refused("RFC 9420 §2.1.2", key+": a vector longer than the body", federation.RawRequest{Endpoint: key, Body: bytes.Repeat([]byte{0xbf}, 64)}, 400, 404, 422)
	}
	c.refused("RFC 9420 §2.1", "identifierQuery: octets behind the body", federation.RawRequest{Endpoint: "identifierQuery", Body: append(c.query(), 0)}, 400, 422)
}

// rooms asks for a room that the target doesn't have, and for one that it can't.
func (c *checker) rooms() {
	sig := c.signer()
	body := encode(c.groupInfo(sig))
	c.groupInfoRefused("groupInfo of a room that isn't there", federation.RawRequest{Endpoint: "groupInfo", Body: body})
	v := c.variables()
	foreign, err := mimi.NewRoomURI(stranger, c.random)
	if err != nil {
		panic(err)
	}
	v.RoomID = foreign
	c.groupInfoRefused("groupInfo of a room of another hub", federation.RawRequest{Endpoint: "groupInfo", Variables: v, Body: body})
	c.refused("§5.5, Decision 58", "notify for a room that the sender is not the hub of", federation.RawRequest{Endpoint: "notify", Variables: v, Body: []byte{1}}, 403, 404, 400)
}

// signer is a key that nobody vouches for.
func (c *checker) signer() *suite.Signer {
	s, _ := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	sig, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		panic(err) // the default source of randomness does not fail
	}
	return sig
}

func (c *checker) groupInfo(sig *suite.Signer) *mimi.GroupInfoRequest {
	s, _ := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		panic(err)
	}
	req := &mimi.GroupInfoRequest{Protocol: mimi.MLS10, CipherSuite: suite.X25519AES128GCMSHA256Ed25519, RequestingSignatureKey: sig.Public(),
		RequestingCredential: mls.BasicCredential([]byte("mimi://" + string(c.Own) + "/d/check/1")), GroupInfoPublicKey: key.Public()}
	if err := req.Sign(rand.Reader, sig); err != nil {
		panic(err)
	}
	return req
}

// groupInfoRefused checks an answer that may be a refusal of HTTP or one in the
// body (MIMI protocol §5.6).
func (c *checker) groupInfoRefused(check string, r federation.RawRequest) {
	a, ok := c.send("§5.6", check, r)
	if !ok {
		return
	}
	if a.Status == http.StatusServiceUnavailable {
		c.say(Skip, "§5.6", check, "answered with %s: it could not reach %s to learn whom it vouches for", words(a), c.Own)
		return
	}
	if a.Status != http.StatusOK {
		c.judge("§5.6", check, a, 404, 403, 400)
		return
	}
	var resp mimi.GroupInfoResponse
	if err := tlspl.Unmarshal(a.Body, &resp); err != nil {
		c.say(Fail, "§5.6", check, "its answer is malformed: %v", err)
		return
	}
	if resp.Status == mimi.GroupInfoSuccess {
		c.say(Fail, "§5.6", check, "it gave a GroupInfo")
		return
	}
	c.say(Pass, "§5.6", check, "answered with %s", resp.Status)
}

// foreignActors lets users of a provider that we are not act.
func (c *checker) foreignActors() {
	mallory := user(stranger, "mallory")
	target := user(c.Target, c.random)
	c.refused("§5.7, Decision 6", "a consent request in a stranger's name", federation.RawRequest{Endpoint: "requestConsent", Body: encode(&mimi.ConsentEntry{
		ConsentOperation: mimi.ConsentRequest, ConsentScope: mimi.ConsentScope{RequesterURI: mallory, TargetURI: target}})}, 403, 400, 401)
	c.refused("§5.7, Decision 6", "a consent in a stranger's name", federation.RawRequest{Endpoint: "updateConsent", Body: encode(&mimi.ConsentEntry{
		ConsentOperation: mimi.ConsentRevoke, ConsentScope: mimi.ConsentScope{RequesterURI: target, TargetURI: mallory}})}, 403, 400, 401)
	c.refused("§5.9, Decision 6", "an abuse report in a stranger's name", federation.RawRequest{Endpoint: "reportAbuse", Body: encode(&mimi.AbuseReport{
		ReportingUser: mallory, AllegedAbuserURI: target})}, 403, 404, 400, 401)
	sig := c.signer()
	c.refused("§5.2, Decision 6", "a claim of KeyPackages in a stranger's name", federation.RawRequest{Endpoint: "keyMaterial",
		Body: encode(c.claim(sig, mallory, target))}, 403, 400, 401)
}

func (c *checker) claim(sig *suite.Signer, requester, target mimi.UserURI) *mimi.KeyMaterialRequest {
	req := &mimi.KeyMaterialRequest{Protocol: mimi.MLS10, RequestingUser: requester, TargetUser: target,
		AcceptableCiphersuites: []suite.ID{suite.X25519AES128GCMSHA256Ed25519}, RequesterSignatureKey: sig.Public(),
		RequesterCredential: mls.BasicCredential([]byte("mimi://" + string(c.Own) + "/d/check/1"))}
	if err := req.Sign(rand.Reader, sig); err != nil {
		panic(err)
	}
	return req
}

// keyMaterial claims KeyPackages with credentials that nobody vouches for, and
// with a signature that is wrong.
func (c *checker) keyMaterial() {
	target := c.User
	if target == "" {
		target = user(c.Target, c.random)
	}
	v := c.variables()
	v.TargetUser = target
	for _, how := range []string{"a wrong signature", "a key that nobody vouches for"} {
		check := "a claim of KeyPackages with " + how
		req := c.claim(c.signer(), user(c.Own, "check"), target)
		if how == "a wrong signature" {
			req.Signature[0] ^= 1
		}
		a, ok := c.send("§5.2", check, federation.RawRequest{Endpoint: "keyMaterial", Variables: v, Body: encode(req)})
		if !ok {
			continue
		}
		if a.Status == http.StatusServiceUnavailable {
			c.say(Skip, "§5.2", check, "answered with %s: it could not reach %s to learn whom it vouches for", words(a), c.Own)
			continue
		}
		if a.Status != http.StatusOK {
			c.judge("§5.2", check, a, 403, 400, 401, 404)
			continue
		}
		var resp mimi.KeyMaterialResponse
		if err := tlspl.Unmarshal(a.Body, &resp); err != nil {
			c.say(Fail, "§5.2", check, "its answer is malformed: %v", err)
			continue
		}
		given := 0
		for _, client := range resp.Clients {
			if client.ClientStatus == mimi.ClientSuccess {
				given++
			}
		}
		if given > 0 {
			c.say(Fail, "§5.2", check, "it gave out %d KeyPackages", given)
		} else {
			c.say(Pass, "§5.2", check, "answered with %s and no KeyPackage", resp.UserStatus)
		}
	}
}

// discovery looks for nobody, twice, and for everybody.
func (c *checker) discovery() {
	const key = "identifierQuery"
	ask := func(check string, req *mimi.IdentifierRequest) (*mimi.IdentifierResponse, bool) {
		a, ok := c.send("§5.8", check, federation.RawRequest{Endpoint: key, Body: encode(req)})
		if !ok {
			return nil, false
		}
		if a.Status != http.StatusOK {
			c.judge("§5.8", check, a, 200)
			return nil, false
		}
		var resp mimi.IdentifierResponse
		if err := tlspl.Unmarshal(a.Body, &resp); err != nil {
			c.say(Fail, "§5.8", check, "its answer is malformed: %v", err)
			return nil, false
		}
		return &resp, true
	}
	element := mimi.QueryElement{SearchType: mimi.SearchHandle, SearchValue: c.random}
	if r, ok := ask("a look-up of nobody", &mimi.IdentifierRequest{QueryElements: []mimi.QueryElement{element}}); ok {
		switch {
		case len(r.URI) > 0:
			c.say(Fail, "§5.8", "a look-up of nobody", "it found %s", r.URI[0])
		default:
			c.say(Pass, "§5.8", "a look-up of nobody", "answered with %s", r.ResponseCode)
		}
	}
	// An empty list of conditions holds for everybody.
	if r, ok := ask("a look-up without a condition", &mimi.IdentifierRequest{}); ok {
		if len(r.URI) > 0 {
			c.say(Fail, "§5.8, Decision 70", "a look-up without a condition", "it lists its users: %d of them", len(r.URI))
		} else {
			c.say(Pass, "§5.8, Decision 70", "a look-up without a condition", "answered with %s", r.ResponseCode)
		}
	}
}

// consent asks somebody who may exist and somebody who doesn't: the answers must
// be alike. The request is taken back at once.
func (c *checker) consent() {
	const check = "consent requests do not tell whether a user exists"
	if c.User == "" {
		c.say(Skip, "§5.7", check, "no user of %s was given", c.Target)
		return
	}
	me := user(c.Own, "check")
	ask := func(target mimi.UserURI, op mimi.ConsentOperation) (*federation.RawAnswer, bool) {
		v := c.variables()
		v.TargetUser = target
		return c.send("§5.7", check, federation.RawRequest{Endpoint: "requestConsent", Variables: v,
			Body: encode(&mimi.ConsentEntry{ConsentOperation: op, ConsentScope: mimi.ConsentScope{RequesterURI: me, TargetURI: target}})})
	}
	real, ok := ask(c.User, mimi.ConsentRequest)
	if !ok {
		return
	}
	defer func() {
		if _, err := c.Client.Raw(c.ctx, c.Target, federation.RawRequest{Endpoint: "requestConsent",
			Variables: mimi.Variables{TargetUser: c.User, RequesterUser: me, TargetDomain: c.Target, RequesterDomain: c.Own},
			Body:      encode(&mimi.ConsentEntry{ConsentOperation: mimi.ConsentCancel, ConsentScope: mimi.ConsentScope{RequesterURI: me, TargetURI: c.User}})}); err != nil {
			c.say(Warn, "§5.7", "a consent request is taken back", "no answer: %v", err)
		}
	}()
	nobody, ok := ask(user(c.Target, c.random), mimi.ConsentRequest)
	if !ok {
		return
	}
	if real.Status != nobody.Status || !bytes.Equal(real.Body, nobody.Body) {
		c.say(Fail, "§5.7", check, "%s for a user who exists, %s for one who doesn't", words(real), words(nobody))
		return
	}
	c.say(Pass, "§5.7", check, "both were answered with %d", real.Status)
}

// assets tries to turn the download proxy on what only the target can reach.
func (c *checker) assets() {
	for _, target := range []string{"https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://169.254.169.254/latest/meta-data/", "http://" + string(c.Own) + "/"} {
		check := "a download of " + target + " through the proxy"
		if !c.offered["proxyDownload"] {
			c.say(Skip, "§5.10", check, "proxyDownload is not offered")
			continue
		}
		v := c.variables()
		v.DownloadURL = target
		started := time.Now()
		a, err := c.Client.Raw(c.ctx, c.Target, federation.RawRequest{Endpoint: "proxyDownload", Variables: v, Change: func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
		}})
		var peer *federation.PeerError
		switch took := time.Since(started); {
		case err != nil && errors.As(err, &peer):
			c.say(Fail, "§5.10, Decision 76", check, "no answer: %v", err)
		case err != nil:
			c.say(Skip, "§5.10, Decision 76", check, "%v", err)
		case took > slow:
			c.say(Warn, "§5.10, Decision 76", check, "refused with %s only after %v: did it try?", words(a), took.Round(time.Second))
		case a.Status == http.StatusBadGateway || a.Status == http.StatusGatewayTimeout:
			c.say(Warn, "§5.10, Decision 76", check, "answered with %s: it seems to have tried", words(a))
		default:
			want := []int{403, 400, 404}
			if strings.HasPrefix(target, "http:") {
				want = []int{400, 403, 404}
			}
			c.judge("§5.10, Decision 76", check, a, want...)
		}
	}
}
