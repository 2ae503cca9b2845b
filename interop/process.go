package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
)

// maxLine bounds an answer: a Welcome for a thousand members is far below it.
const maxLine = 64 << 20

// Process is a foreign peer behind a pipe. It is not safe for concurrent use.
type Process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	lastID uint64
}

// Start runs the command, which must speak the pipe protocol; its standard error goes to log.
func Start(log io.Writer, dir, name string, args ...string) (*Process, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("interop: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("interop: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("interop: starting %s: %w", name, err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	return &Process{cmd: cmd, in: in, out: lines}, nil
}

// Close ends the process and waits for it.
func (p *Process) Close() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}

// request has the fields of every operation; an operation uses the ones it needs.
type request struct {
	ID            uint64     `json:"id"`
	Op            string     `json:"op"`
	Client        string     `json:"client,omitempty"`
	Suite         uint16     `json:"suite,omitempty"`
	TreeExtension bool       `json:"tree_extension,omitempty"`
	Private       bool       `json:"private,omitempty"`
	AlwaysPath    bool       `json:"always_path,omitempty"`
	GroupID       []byte     `json:"group_id,omitempty"`
	Proposal      *Proposal  `json:"proposal,omitempty"`
	Proposals     []Proposal `json:"proposals,omitempty"`
	Message       []byte     `json:"message,omitempty"`
	RatchetTree   []byte     `json:"ratchet_tree,omitempty"`
	Remove        *uint32    `json:"remove,omitempty"`
	Data          []byte     `json:"data,omitempty"`
	AAD           []byte     `json:"aad,omitempty"`
	Label         string     `json:"label,omitempty"`
	Context       []byte     `json:"context,omitempty"`
	Length        int        `json:"length,omitempty"`
	Following     *Following `json:"following,omitempty"`
	PSKID         []byte     `json:"psk_id,omitempty"`
	PSK           []byte     `json:"psk,omitempty"`
}

// PeerError is a peer's own word that an operation failed.
type PeerError struct {
	Op, Client, Text string
}

func (e *PeerError) Error() string {
	return fmt.Sprintf("interop: %s of %s: %s", e.Op, e.Client, e.Text)
}

func (p *Process) call(r request, result any) error {
	p.lastID++
	r.ID = p.lastID
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("interop: %s: %w", r.Op, err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("interop: %s: %w", r.Op, err)
	}
	if !p.out.Scan() {
		return fmt.Errorf("interop: %s of %s: peer gone: %w", r.Op, r.Client, errors.Join(p.out.Err(), io.ErrUnexpectedEOF))
	}
	var answer struct {
		ID     uint64          `json:"id"`
		Result json.RawMessage `json:"result"`
		Error  *string         `json:"error"`
	}
	if err := json.Unmarshal(p.out.Bytes(), &answer); err != nil {
		return fmt.Errorf("interop: %s: bad answer %q: %w", r.Op, p.out.Text(), err)
	}
	switch {
	case answer.Error != nil:
		return &PeerError{Op: r.Op, Client: r.Client, Text: *answer.Error}
	case answer.ID != r.ID:
		return fmt.Errorf("interop: %s: answer %d to request %d", r.Op, answer.ID, r.ID)
	case result == nil:
		return nil
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return fmt.Errorf("interop: %s: bad result %s: %w", r.Op, answer.Result, err)
	}
	return nil
}

func (p *Process) message(r request) ([]byte, error) {
	var out struct {
		Message []byte `json:"message"`
	}
	err := p.call(r, &out)
	return out.Message, err
}

// Capabilities implements [Peer].
func (p *Process) Capabilities() (out Capabilities, err error) {
	err = p.call(request{Op: "capabilities"}, &out)
	return out, err
}

// NewClient implements [Peer].
func (p *Process) NewClient(client string, suite uint16, options ClientOptions) error {
	return p.call(request{
		Op: "new_client", Client: client, Suite: suite,
		TreeExtension: options.TreeExtension, Private: options.Private, AlwaysPath: options.AlwaysPath,
	}, nil)
}

// KeyPackage implements [Peer].
func (p *Process) KeyPackage(client string) ([]byte, error) {
	return p.message(request{Op: "key_package", Client: client})
}

// CreateGroup implements [Peer].
func (p *Process) CreateGroup(client string, groupID []byte) error {
	return p.call(request{Op: "create_group", Client: client, GroupID: groupID}, nil)
}

// Propose implements [Peer].
func (p *Process) Propose(client string, proposal Proposal) ([]byte, error) {
	return p.message(request{Op: "propose", Client: client, Proposal: &proposal})
}

// Commit implements [Peer].
func (p *Process) Commit(client string, proposals []Proposal) (out Committed, err error) {
	err = p.call(request{Op: "commit", Client: client, Proposals: proposals}, &out)
	return out, err
}

// Merge implements [Peer].
func (p *Process) Merge(client string) error {
	return p.call(request{Op: "merge", Client: client}, nil)
}

// Discard implements [Peer].
func (p *Process) Discard(client string) error {
	return p.call(request{Op: "discard", Client: client}, nil)
}

// Join implements [Peer].
func (p *Process) Join(client string, welcome, tree []byte) error {
	return p.call(request{Op: "join", Client: client, Message: welcome, RatchetTree: tree}, nil)
}

// Follow implements [Peer].
func (p *Process) Follow(client string, f Following) (out Committed, err error) {
	err = p.call(request{Op: "follow", Client: client, Following: &f}, &out)
	return out, err
}

// JoinFollowing implements [Peer].
func (p *Process) JoinFollowing(client string, branch bool, welcome, tree []byte) error {
	return p.call(request{
		Op: "join_following", Client: client, Following: &Following{Branch: branch}, Message: welcome, RatchetTree: tree,
	}, nil)
}

// GroupInfo implements [Peer].
func (p *Process) GroupInfo(client string) (out GroupInfo, err error) {
	err = p.call(request{Op: "group_info", Client: client}, &out)
	return out, err
}

// JoinExternal implements [Peer].
func (p *Process) JoinExternal(client string, groupInfo, tree []byte, remove *uint32) ([]byte, error) {
	return p.message(request{
		Op: "join_external", Client: client, Message: groupInfo, RatchetTree: tree, Remove: remove,
	})
}

// Process implements [Peer].
func (p *Process) Process(client string, message []byte) (out Processed, err error) {
	err = p.call(request{Op: "process", Client: client, Message: message}, &out)
	return out, err
}

// Encrypt implements [Peer].
func (p *Process) Encrypt(client string, data, aad []byte) ([]byte, error) {
	return p.message(request{Op: "encrypt", Client: client, Data: data, AAD: aad})
}

// Export implements [Peer].
func (p *Process) Export(client, label string, context []byte, length int) ([]byte, error) {
	var out struct {
		Secret []byte `json:"secret"`
	}
	err := p.call(request{Op: "export", Client: client, Label: label, Context: context, Length: length}, &out)
	return out.Secret, err
}

// State implements [Peer].
func (p *Process) State(client string) (out State, err error) {
	err = p.call(request{Op: "state", Client: client}, &out)
	return out, err
}

// PSK implements [Peer].
func (p *Process) PSK(client string, id, psk []byte) error {
	return p.call(request{Op: "psk", Client: client, PSKID: id, PSK: psk}, nil)
}

// Forget implements [Peer].
func (p *Process) Forget(client string) error {
	return p.call(request{Op: "forget", Client: client}, nil)
}
