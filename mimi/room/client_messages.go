package room

import (
	"fmt"
	"io"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Encrypt encrypts application data for the room. frankingTag is the sender's commitment to it, 32 octets; a room with a
// franking agent takes no message without (Decisions 43, 49). What Flush gives must be stored before the message leaves.
func (r *Room) Encrypt(rand io.Reader, applicationData, frankingTag []byte) (*mimi.Message, error) {
	var items []mls.SafeAADItem
	if frankingTag != nil {
		items = []mls.SafeAADItem{{ComponentID: mimi.ComponentFrankAAD, AADItemData: frankingTag}}
	}
	aad, err := r.View().authenticatedData(items)
	if err != nil {
		return nil, err
	}
	m, err := r.group.Encrypt(rand, applicationData, aad)
	if err != nil {
		return nil, err
	}
	message, err := mimi.NewMessage(*m)
	return &message, err
}

// A Received is an application message, decrypted.
type Received struct {
	Data       []byte
	Epoch      mls.Epoch
	Generation uint32
	// Sender is the client that sent it, and Role the role of its user, both in the epoch of the message.
	Sender Identity
	Role   policy.RoleIndex
	// Terms are what the message is judged by, also of its epoch.
	Terms *Terms
	// FrankingTag is nil if the message has none.
	FrankingTag []byte
}

// Decrypt decrypts an application message. What Flush gives must be stored together with it.
func (r *Room) Decrypt(m *mimi.Message) (*Received, error) {
	a, err := r.group.Decrypt(&m.MLSMessage)
	if err != nil {
		return nil, err
	}
	out := &Received{Data: a.Data, Epoch: a.Epoch, Generation: a.Generation, Terms: r.TermsIn(a.Epoch)}
	if out.Sender, out.Role, err = r.senderIn(a.Epoch, a.Sender); err != nil {
		return nil, err
	}
	if out.Terms.SafeAAD {
		var aad mls.SafeAAD
		if err := tlspl.Unmarshal(a.AuthenticatedData, &aad); err != nil {
			return nil, fmt.Errorf("room: authenticated_data is no SafeAAD: %w", err)
		}
		out.FrankingTag, _ = aad.Find(mimi.ComponentFrankAAD)
	}
	return out, nil
}
