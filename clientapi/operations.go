package clientapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
)

func (h *Handler) info(w http.ResponseWriter, r *http.Request, _ Device, _ string) error {
	v, err := h.Service.Info(r.Context())
	return writeJSON(w, v, err)
}

func (h *Handler) register(w http.ResponseWriter, r *http.Request, _ Device, _ string) error {
	return h.session(w, r, h.Service.Register)
}

func (h *Handler) login(w http.ResponseWriter, r *http.Request, _ Device, _ string) error {
	return h.session(w, r, func(ctx context.Context, l Login) (Session, error) {
		if err := h.users.login(l.User); err != nil {
			return Session{}, err
		}
		return h.Service.Login(ctx, l)
	})
}

func (h *Handler) session(w http.ResponseWriter, r *http.Request, open func(context.Context, Login) (Session, error)) error {
	var l Login
	if err := h.users.place(r.RemoteAddr); err != nil {
		return err
	}
	if err := readJSON(w, r, &l); err != nil {
		return err
	}
	select {
	case h.auth <- struct{}{}:
		defer func() { <-h.auth }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	v, err := open(r.Context(), l)
	return writeJSON(w, v, err)
}

func (h *Handler) devices(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	if r.Method == http.MethodGet {
		v, err := h.Service.Devices(r.Context(), d)
		return writeJSON(w, v, err)
	}
	client, err := parseArg(arg, mimi.ParseClientURI)
	if err != nil {
		return err
	}
	return done(w, h.Service.RemoveDevice(r.Context(), d, client))
}

func (h *Handler) account(w http.ResponseWriter, r *http.Request, d Device, _ string) error {
	var l Login
	if err := readJSON(w, r, &l); err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		return done(w, h.Service.CheckPassword(r.Context(), d, l.Password))
	}
	return done(w, h.Service.DeleteAccount(r.Context(), d, l.Password))
}

func (h *Handler) certificate(w http.ResponseWriter, r *http.Request, d Device, _ string) error {
	var q identity.CertificateRequest
	if err := readBody(w, r, MaxMessage, &q); err != nil {
		return err
	}
	v, err := h.Service.Certify(r.Context(), d, &q)
	return writeBody(w, v, err)
}

func (h *Handler) issuers(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	domain, err := mimi.ParseProviderDomain(arg)
	if err != nil {
		return err
	}
	v, err := h.Service.Issuers(r.Context(), d, domain)
	return writeJSON(w, v, err)
}

func (h *Handler) keyPackages(w http.ResponseWriter, r *http.Request, d Device, _ string) error {
	if r.Method == http.MethodGet {
		v, err := h.Service.Stock(r.Context(), d)
		return writeJSON(w, v, err)
	}
	var k keyPackages
	if err := readBody(w, r, MaxMessage, &k); err != nil {
		return err
	}
	v, err := h.Service.AddKeyPackages(r.Context(), d, k.list)
	return writeJSON(w, v, err)
}

func (h *Handler) rooms(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	if r.Method == http.MethodGet {
		v, err := h.Service.Rooms(r.Context(), d)
		return writeJSON(w, v, err)
	}
	room, err := parseArg(arg, mimi.ParseRoomURI)
	if err != nil {
		return err
	}
	if r.Method == http.MethodDelete {
		var read int64
		if s := r.URL.Query().Get("read"); s != "" {
			if read, err = strconv.ParseInt(s, 10, 64); err != nil || read <= 0 {
				return Errorf(CodeBadRequest, "read is a position of the room's log, not %q", s)
			}
		}
		return done(w, h.Service.LeaveRoom(r.Context(), d, room, read))
	}
	var q CreateRoomRequest
	if err := readBody(w, r, MaxUpdate, &q); err != nil {
		return err
	}
	v, err := h.Service.CreateRoom(r.Context(), d, room, &q)
	return writeBody(w, v, err)
}

func (h *Handler) keyMaterial(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	target, err := parseArg(arg, mimi.ParseUserURI)
	if err != nil {
		return err
	}
	var q mimi.KeyMaterialRequest
	if err := readBody(w, r, MaxMessage, &q); err != nil {
		return err
	}
	v, err := h.Service.KeyMaterial(r.Context(), d, target, &q)
	return writeBody(w, v, err)
}

func (h *Handler) update(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	room, err := parseArg(arg, mimi.ParseRoomURI)
	if err != nil {
		return err
	}
	var q mimi.UpdateRequest
	if err := readBody(w, r, MaxUpdate, &q); err != nil {
		return err
	}
	v, err := h.Service.Update(r.Context(), d, room, &q)
	return writeBody(w, v, err)
}

func (h *Handler) submitMessage(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	room, err := parseArg(arg, mimi.ParseRoomURI)
	if err != nil {
		return err
	}
	var q mimi.SubmitMessageRequest
	if err := readBody(w, r, MaxMessage, &q); err != nil {
		return err
	}
	v, err := h.Service.SubmitMessage(r.Context(), d, room, &q)
	return writeBody(w, v, err)
}

func (h *Handler) groupInfo(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	room, err := parseArg(arg, mimi.ParseRoomURI)
	if err != nil {
		return err
	}
	var q mimi.GroupInfoRequest
	if err := readBody(w, r, MaxMessage, &q); err != nil {
		return err
	}
	v, err := h.Service.GroupInfo(r.Context(), d, room, &q)
	return writeBody(w, v, err)
}

func (h *Handler) reportAbuse(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	room, err := parseArg(arg, mimi.ParseRoomURI)
	if err != nil {
		return err
	}
	var q mimi.AbuseReport
	if err := readBody(w, r, MaxUpdate, &q); err != nil {
		return err
	}
	return done(w, h.Service.ReportAbuse(r.Context(), d, room, &q))
}

func (h *Handler) identifierQuery(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	domain, err := mimi.ParseProviderDomain(arg)
	if err != nil {
		return err
	}
	var q mimi.IdentifierRequest
	if err := readBody(w, r, MaxMessage, &q); err != nil {
		return err
	}
	v, err := h.Service.IdentifierQuery(r.Context(), d, domain, &q)
	return writeBody(w, v, err)
}

func (h *Handler) consents(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	if r.Method == http.MethodGet {
		v, err := h.Service.Consents(r.Context(), d)
		return writeJSON(w, v, err)
	}
	if arg == "report" {
		var report ConsentReport
		if err := readJSON(w, r, &report); err != nil {
			return err
		}
		return done(w, h.Service.ReportConsent(r.Context(), d, report))
	}
	var c ConsentChange
	if err := readJSON(w, r, &c); err != nil {
		return err
	}
	return done(w, h.Service.ChangeConsent(r.Context(), d, c))
}

func (h *Handler) profile(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	switch r.Method {
	case http.MethodGet:
		v, err := h.Service.Profile(r.Context(), d)
		return writeJSON(w, v, err)
	case http.MethodPost:
		var f ProfileField
		if err := readJSON(w, r, &f); err != nil {
			return err
		}
		return done(w, h.Service.SetProfileField(r.Context(), d, f))
	}
	number, name, _ := strings.Cut(arg, "/")
	source, err := strconv.ParseUint(number, 10, 8)
	if err != nil {
		return Errorf(CodeBadRequest, "%q is not the number of a search type", number)
	}
	if name, err = mimi.Unescape(name); err != nil {
		return Errorf(CodeBadRequest, "%v", err)
	}
	return done(w, h.Service.DropProfileField(r.Context(), d, uint8(source), name))
}

func (h *Handler) joinCodes(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	roomArg, codeArg, _ := strings.Cut(arg, "/")
	room, err := parseArg(roomArg, mimi.ParseRoomURI)
	if err != nil {
		return err
	}
	switch r.Method {
	case http.MethodGet:
		v, err := h.Service.JoinCodes(r.Context(), d, room)
		return writeJSON(w, v, err)
	case http.MethodPost:
		var c JoinCode
		if err := readJSON(w, r, &c); err != nil {
			return err
		}
		v, err := h.Service.CreateJoinCode(r.Context(), d, room, c)
		return writeJSON(w, v, err)
	}
	code, err := mimi.Unescape(codeArg)
	if err != nil {
		return Errorf(CodeBadRequest, "%v", err)
	}
	return done(w, h.Service.RevokeJoinCode(r.Context(), d, room, code))
}

func (h *Handler) assets(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	if r.Method == http.MethodPost {
		if r.ContentLength < 0 {
			return Errorf(CodeBadRequest, "an upload needs a Content-Length")
		}
		v, err := h.Service.UploadAsset(r.Context(), d, r.Header.Get("Content-Type"), r.ContentLength, r.Body)
		return writeJSON(w, v, err)
	}
	roomArg, urlArg, _ := strings.Cut(arg, "/")
	room, err := parseArg(roomArg, mimi.ParseRoomURI)
	if err != nil {
		return err
	}
	url, err := mimi.Unescape(urlArg)
	if err != nil {
		return Errorf(CodeBadRequest, "%v", err)
	}
	part, err := parseRange(r.Header.Get("Range"))
	if err != nil {
		return err
	}
	body, err := h.Service.DownloadAsset(r.Context(), d, room, url, part)
	if err != nil {
		return err
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if part != (Range{}) {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, err = io.Copy(w, body)
	return err
}

func (h *Handler) relay(w http.ResponseWriter, r *http.Request, d Device, arg string) error {
	hub, err := mimi.ParseProviderDomain(arg)
	if err != nil {
		return err
	}
	var answer []byte
	if r.Method == http.MethodGet {
		answer, err = h.Service.GatewayKeys(r.Context(), d, hub)
	} else {
		var request []byte
		if request, err = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxMessage)); err != nil {
			return err
		}
		answer, err = h.Service.Relay(r.Context(), d, hub, request)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = w.Write(answer)
	return err
}

// parseRange reads the one form of a Range header that the API takes:
// bytes=from-to, or bytes=from-.
func parseRange(s string) (Range, error) {
	if s == "" {
		return Range{}, nil
	}
	bad := Errorf(CodeBadRequest, "the Range %q is not of the form bytes=from-to", s)
	rest, ok := strings.CutPrefix(s, "bytes=")
	from, to, ok2 := strings.Cut(rest, "-")
	if !ok || !ok2 {
		return Range{}, bad
	}
	a, err := strconv.ParseInt(from, 10, 62)
	if err != nil || a < 0 {
		return Range{}, bad
	}
	if to == "" {
		return Range{From: a}, nil
	}
	b, err := strconv.ParseInt(to, 10, 62)
	if err != nil || b < a {
		return Range{}, bad
	}
	return Range{From: a, Length: b - a + 1}, nil
}

// header is the Range header for a part of an asset.
func (p Range) header() string {
	if p.Length == 0 {
		return fmt.Sprintf("bytes=%d-", p.From)
	}
	return fmt.Sprintf("bytes=%d-%d", p.From, p.From+p.Length-1)
}
