package manager

import (
	"slices"

	"berth/lambda"
	"berth/ring"
)

// legacy is an environment that is to be left to somebody.
type legacy struct {
	e           *environment
	key         lambda.EnvironmentKey
	inUse       bool
	provisioned bool
}

// split decides to which part each environment goes. The parts are in slot order.
//
// Executions fill the parts by their slots, those that this manager keeps first; what they do not hold (a limit was lowered) goes
// to the last. Idle environments of one key are spread over the first parts that together can run the pool's load, and fill the
// following ones (those of a tenant go to its home): so do frontends draw managers for calls, and a call that is drawn on a manager without an idle environment
// would start a new one. What is provisioned goes to the first part: the pool's first manager asks for slot 0.
func split(parts []lambda.Part, self lambda.ManagerID, load int, list []legacy) []lambda.ManagerID {
	free := make([]int, len(parts))
	for i, p := range parts {
		free[i] = max(0, p.To-p.From)
	}
	heirs := make([]lambda.ManagerID, len(list))
	order := fillOrder(parts, self)
	for i, l := range list {
		switch {
		case l.provisioned:
			heirs[i] = parts[0].Manager
		case l.inUse:
			heirs[i] = parts[fill(free, order)].Manager
		}
	}
	spreads := map[lambda.EnvironmentKey]*spread{}
	var homes []lambda.ManagerID
	for i, l := range list {
		if l.provisioned || l.inUse {
			continue
		}
		if l.key.Tenant != "" && l.key.Tenant != lambda.Unbound {
			if homes == nil {
				homes = homesOf(parts)
			}
			ring.RankTenant(l.key, homes, nil)
			heirs[i] = homes[0]
			continue
		}
		s := spreads[l.key]
		if s == nil {
			s = newSpread(parts, load)
			spreads[l.key] = s
		}
		heirs[i] = parts[s.next()].Manager
	}
	return heirs
}

// homesOf are the managers among which frontends look for a tenant's environments.
func homesOf(parts []lambda.Part) []lambda.ManagerID {
	var homes []lambda.ManagerID
	for _, p := range parts {
		if !slices.Contains(homes, p.Manager) {
			homes = append(homes, p.Manager)
		}
	}
	return homes
}

// fillOrder is the parts' order for executions: those that stay here come first.
func fillOrder(parts []lambda.Part, self lambda.ManagerID) []int {
	order := make([]int, 0, len(parts))
	for i, p := range parts {
		if p.Manager == self {
			order = append(order, i)
		}
	}
	for i, p := range parts {
		if p.Manager != self {
			order = append(order, i)
		}
	}
	return order
}

func fill(free, order []int) int {
	for _, i := range order {
		if free[i] > 0 {
			free[i]--
			return i
		}
	}
	return order[len(order)-1]
}

// spread deals environments of one key out: to the first parts that together run the load in proportion to their slots; when they
// have one for each slot, to the next part.
type spread struct {
	size  []int // slots, at least one
	given []int
	wide  int // how many parts get some now
}

func newSpread(parts []lambda.Part, load int) *spread {
	s := &spread{given: make([]int, len(parts))}
	for _, p := range parts {
		n := max(0, p.To-p.From)
		if load > 0 || s.wide == 0 {
			s.wide++
		}
		load -= n
		s.size = append(s.size, max(1, n))
	}
	return s
}

func (s *spread) next() int {
	for {
		least := 0
		for i := range s.wide {
			// given/size, compared without a division; of equal shares the earlier part.
			if s.given[i]*s.size[least] < s.given[least]*s.size[i] {
				least = i
			}
		}
		if s.given[least] < s.size[least] || s.wide == len(s.size) {
			s.given[least]++
			return least
		}
		s.wide++
	}
}
