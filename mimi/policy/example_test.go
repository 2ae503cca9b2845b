package policy_test

import (
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
)

// A room of a preset, and what its roles may do.
func ExampleBuild() {
	components, list, err := policy.Build(policy.Channel, policy.Params{Hub: "a.example", Creator: "mimi://a.example/u/alice"})
	if err != nil {
		fmt.Println(err)
		return
	}
	roles, err := policy.NewRoles(components.Roles)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range list {
		fmt.Printf("%s is %s\n", p.User, roles.Name(p.RoleIndex))
	}
	subscriber, _ := roles.ByName("subscriber")
	fmt.Println("a subscriber reacts:", roles.Has(subscriber, mimi.CanReactToMessage))
	fmt.Println("a subscriber writes:", roles.Has(subscriber, mimi.CanSendMessage))
	// Output:
	// mimi://a.example/u/alice is owner
	// mimi://a.example is policy_enforcer
	// a subscriber reacts: true
	// a subscriber writes: false
}

// Settings are how people change a policy without knowing of components.
func ExampleComponents_Set() {
	components, _, err := policy.Build(policy.Moderated, policy.Params{Hub: "a.example", Creator: "mimi://a.example/u/alice"})
	if err != nil {
		fmt.Println(err)
		return
	}
	id, data, err := components.Set("role.guest.can", "+canReplyInTopic")
	if err != nil {
		fmt.Println(err)
		return
	}
	guest := data.(*mimi.RoleData).Find(2)
	fmt.Println(mimi.ComponentName(id), guest.RoleName, guest.Can(mimi.CanReplyInTopic))

	_, _, err = components.Set("expiration.max", "soon")
	fmt.Println(err)
	// Output:
	// roles_list guest true
	// policy: expiration.max: "soon" is not a time such as 90s, 5m, 2h or 7d
}
