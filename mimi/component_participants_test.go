package mimi

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/tlspl"
	"pgregory.net/rapid"
)

func testRoles(indices ...RoleIndex) *RoleData {
	var d RoleData
	for _, i := range indices {
		d.Roles = append(d.Roles, Role{RoleIndex: i})
	}
	return &d
}

func user(name string) IdentifierURI { return IdentifierURI("mimi://a.example/u/" + name) }

func TestParticipantListApply(t *testing.T) {
	base := ParticipantListData{[]UserRolePair{
		{user("alice"), 4}, {user("bob"), 2}, {user("cathy"), 2}, {user("dave"), 1}, {"mimi://a.example", 3},
	}}
	roles := testRoles(0, 1, 2, 3, 4)
	for _, tt := range []struct {
		name    string
		updates []ParticipantListUpdate
		want    []UserRolePair
		err     error
		at      int
	}{
		{
			name: "all at once, indices refer to the list before",
			updates: []ParticipantListUpdate{
				{RemovedIndices: []uint32{2, 0}, AddedParticipants: []UserRolePair{{user("zoe"), 2}}},
				{ChangedRoleParticipants: []UserindexRolePair{{3, 2}}, RemovedIndices: []uint32{1}, AddedParticipants: []UserRolePair{{user("adam"), 4}, {"mimi://b.example/p/x", 2}}},
			},
			want: []UserRolePair{{user("dave"), 2}, {"mimi://a.example", 3}, {user("zoe"), 2}, {user("adam"), 4}, {"mimi://b.example/p/x", 2}},
		},
		{name: "no updates", want: base.Participants},
		{name: "empty", updates: []ParticipantListUpdate{{RemovedIndices: []uint32{0}}, {}}, err: ErrParticipantEmpty, at: 1},
		{name: "removed index", updates: []ParticipantListUpdate{{RemovedIndices: []uint32{5}}}, err: ErrParticipantIndex},
		{name: "changed index", updates: []ParticipantListUpdate{{ChangedRoleParticipants: []UserindexRolePair{{1 << 31, 2}}}}, err: ErrParticipantIndex},
		{name: "removed twice", updates: []ParticipantListUpdate{{RemovedIndices: []uint32{0, 0}}}, err: ErrParticipantTwice},
		{name: "removed in two updates", updates: []ParticipantListUpdate{{RemovedIndices: []uint32{0}}, {RemovedIndices: []uint32{0}}}, err: ErrParticipantTwice, at: 1},
		{name: "changed and removed", updates: []ParticipantListUpdate{{ChangedRoleParticipants: []UserindexRolePair{{0, 2}}, RemovedIndices: []uint32{0}}}, err: ErrParticipantTwice},
		{name: "added twice", updates: []ParticipantListUpdate{{AddedParticipants: []UserRolePair{{user("x"), 2}}}, {AddedParticipants: []UserRolePair{{user("x"), 4}}}}, err: ErrParticipantTwice, at: 1},
		{name: "already present", updates: []ParticipantListUpdate{{AddedParticipants: []UserRolePair{{user("bob"), 2}}}}, err: ErrParticipantPresent},
		{name: "present and removed", updates: []ParticipantListUpdate{{RemovedIndices: []uint32{1}}, {AddedParticipants: []UserRolePair{{user("bob"), 4}}}}, err: ErrParticipantPresent, at: 1},
		{name: "unknown role", updates: []ParticipantListUpdate{{ChangedRoleParticipants: []UserindexRolePair{{0, 7}}}}, err: ErrParticipantRole},
		{name: "role 0", updates: []ParticipantListUpdate{{ChangedRoleParticipants: []UserindexRolePair{{0, 0}}}}, err: ErrParticipantRole},
		{name: "added with role 0", updates: []ParticipantListUpdate{{AddedParticipants: []UserRolePair{{user("x"), 0}}}}, err: ErrParticipantRole},
		{name: "no-op", updates: []ParticipantListUpdate{{ChangedRoleParticipants: []UserindexRolePair{{1, 2}}}}, err: ErrParticipantSame},
		{name: "a room", updates: []ParticipantListUpdate{{AddedParticipants: []UserRolePair{{"mimi://a.example/r/x", 2}}}}, err: ErrParticipantKind},
		{name: "a client", updates: []ParticipantListUpdate{{AddedParticipants: []UserRolePair{{"mimi://a.example/d/x", 2}}}}, err: ErrParticipantKind},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(base.Participants)
			got, changes, err := base.Apply(roles, tt.updates)
			if !slices.Equal(before, base.Participants) {
				t.Fatal("the list before the Commit changed")
			}
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			var pe *ParticipantError
			if errors.As(err, &pe) && pe.Update != tt.at {
				t.Errorf("error is about update %d, want %d", pe.Update, tt.at)
			}
			if !slices.Equal(got.Participants, tt.want) {
				t.Errorf("got %v\nwant %v", got.Participants, tt.want)
			}
			for _, c := range changes {
				if base.Role(c.User) != c.From || got.Role(c.User) != c.To {
					t.Errorf("change %+v does not agree with the lists", c)
				}
			}
		})
	}
}

func TestParticipantListValidate(t *testing.T) {
	for _, tt := range []struct {
		list []UserRolePair
		err  error
	}{
		{[]UserRolePair{{user("a"), 1}, {user("b"), 2}}, nil},
		{[]UserRolePair{{user("a"), 1}, {user("a"), 2}}, ErrParticipantTwice},
		{[]UserRolePair{{user("a"), 9}}, ErrParticipantRole},
		{[]UserRolePair{{user("a"), 0}}, ErrParticipantRole},
		{[]UserRolePair{{"mimi://a.example/g/x", 1}}, ErrParticipantKind},
	} {
		d := ParticipantListData{tt.list}
		if err := d.Validate(testRoles(0, 1, 2)); !errors.Is(err, tt.err) {
			t.Errorf("%v: error %v, want %v", tt.list, err, tt.err)
		}
	}
}

// Splitting one update into several of the same Commit must not matter, and the
// changes must lead from the old list to the new one.
func TestParticipantListApplyProperty(t *testing.T) {
	roles := testRoles(1, 2, 3, 4)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "n")
		var base ParticipantListData
		for i := range n {
			base.Participants = append(base.Participants, UserRolePair{user(fmt.Sprint(i)), RoleIndex(1 + i%4)})
		}
		var one ParticipantListUpdate
		var many []ParticipantListUpdate
		for i := range n {
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 1:
				one.RemovedIndices = append(one.RemovedIndices, uint32(i))
				many = append(many, ParticipantListUpdate{RemovedIndices: []uint32{uint32(i)}})
			case 2:
				c := UserindexRolePair{uint32(i), RoleIndex(1 + (i+1)%4)}
				one.ChangedRoleParticipants = append(one.ChangedRoleParticipants, c)
				many = append(many, ParticipantListUpdate{ChangedRoleParticipants: []UserindexRolePair{c}})
			}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "adds") {
			p := UserRolePair{user(fmt.Sprint("new", i)), 2}
			one.AddedParticipants = append(one.AddedParticipants, p)
			many = append(many, ParticipantListUpdate{AddedParticipants: []UserRolePair{p}})
		}
		if len(many) == 0 {
			return
		}
		a, _, err := base.Apply(roles, []ParticipantListUpdate{one})
		if err != nil {
			t.Fatal(err)
		}
		b, changes, err := base.Apply(roles, many)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Participants, b.Participants) {
			t.Fatalf("together %v\nsplit %v", a, b)
		}
		want := make(map[IdentifierURI]RoleIndex)
		for _, p := range base.Participants {
			want[p.User] = p.RoleIndex
		}
		for _, c := range changes {
			if want[c.User] != c.From {
				t.Fatalf("change %+v starts from %d", c, want[c.User])
			}
			want[c.User] = c.To
			if c.To == RoleNone {
				delete(want, c.User)
			}
		}
		if len(want) != len(a.Participants) {
			t.Fatalf("%d participants, want %d", len(a.Participants), len(want))
		}
		for _, p := range a.Participants {
			if want[p.User] != p.RoleIndex {
				t.Fatalf("%s has role %d, want %d", p.User, p.RoleIndex, want[p.User])
			}
		}
	})
}

func TestRoomMetaDataUpdate(t *testing.T) {
	old := RoomMetaData{RoomURI: "mimi://a.example/r/x", RoomName: "X", RoomDescriptions: []RichDescription{{LanguageTag: "en", DescriptionContent: []byte("d")}}}
	for _, tt := range []struct {
		change func(*RoomMetaData)
		need   []CapabilityType
		err    error
	}{
		{func(*RoomMetaData) {}, nil, nil},
		{func(m *RoomMetaData) { m.RoomName = "Y" }, []CapabilityType{0x0300}, nil},
		{func(m *RoomMetaData) { m.RoomDescriptions = nil }, []CapabilityType{0x0301}, nil},
		{func(m *RoomMetaData) {
			m.RoomDescriptions = []RichDescription{{LanguageTag: "en", DescriptionContent: []byte("e")}}
		}, []CapabilityType{0x0301}, nil},
		{func(m *RoomMetaData) { m.RoomAvatar = "https://a.example/x.png" }, []CapabilityType{0x0302}, nil},
		{func(m *RoomMetaData) { m.RoomSubject, m.RoomMood = "s", "m" }, []CapabilityType{0x0303, 0x0304}, nil},
		{func(m *RoomMetaData) { m.RoomAvatar = "http://a.example/x.png" }, nil, ErrMetadataAvatar},
		{func(m *RoomMetaData) { m.RoomAvatar = "https:///x.png" }, nil, ErrMetadataAvatar},
		{func(m *RoomMetaData) { m.RoomURI = "mimi://a.example/r/y" }, nil, ErrMetadataRoomURI},
	} {
		next := old
		tt.change(&next)
		need, err := old.Update(&next)
		if !errors.Is(err, tt.err) || !slices.Equal(need, tt.need) {
			t.Errorf("%+v: %v, %v, want %v, %v", next, need, err, tt.need, tt.err)
		}
	}
	for name, m := range map[string]RoomMetaData{
		"NUL":       {RoomURI: "mimi://a.example/r/x", RoomMood: "a\x00"},
		"not UTF-8": {RoomURI: "mimi://a.example/r/x", RoomName: "\xff"},
		"no room":   {},
	} {
		if b, err := tlspl.Marshal(&m); err == nil {
			t.Errorf("%s: encoded as %x", name, b)
		}
	}
	var m RoomMetaData
	// 0x14 "mimi://a.example/r/x", a name of one NUL.
	in := append([]byte("\x14mimi://a.example/r/x"), 1, 0, 0, 0, 0, 0)
	if err := tlspl.Unmarshal(in, &m); !errors.Is(err, ErrNUL) {
		t.Errorf("a name with a NUL: %v", err)
	}
}

func TestRoleData(t *testing.T) {
	d := RoleData{[]Role{
		{RoleIndex: 0, RoleCapabilities: []CapabilityType{CanOpenJoin}, AuthorizedRoleChanges: []SingleSourceRoleChangeTargets{{0, []RoleIndex{2, 3}}, {0, []RoleIndex{4}}}},
		{RoleIndex: 2, RoleCapabilities: []CapabilityType{CanSendMessage, 0xf123}},
	}}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if r := d.Find(0); !r.Can(CanOpenJoin) || r.Can(CanBan) || !r.MayChange(0, 3) || !r.MayChange(0, 4) || r.MayChange(0, 1) || r.MayChange(2, 3) {
		t.Error("role 0 is misread")
	}
	if r := d.Find(9); r != nil || r.Can(CanSendMessage) || r.MayChange(0, 2) {
		t.Error("a role that is not there allows something")
	}
	for _, tt := range []struct {
		roles []Role
		err   error
	}{
		{[]Role{{RoleIndex: 3}, {RoleIndex: 3}}, ErrRoleTwice},
		{[]Role{{RoleIndex: 3, RoleCapabilities: []CapabilityType{CanOpenJoin}}}, ErrRoleOpenJoin},
	} {
		if err := (&RoleData{tt.roles}).Validate(); !errors.Is(err, tt.err) {
			t.Errorf("%v: error %v, want %v", tt.roles, err, tt.err)
		}
	}
}

func TestCapabilityNames(t *testing.T) {
	if s := CanBan.String(); s != "canBan" {
		t.Error(s)
	}
	if s := CapabilityType(0xf00d).String(); s != "0xf00d" {
		t.Error(s)
	}
	if len(capabilityNames) != 77 {
		t.Errorf("%d names, the registry of room policy §10.2 has 77", len(capabilityNames))
	}
}
