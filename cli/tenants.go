package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

func (a *app) tenantsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tenants NAME",
		Short: "Show the tenants of a function with tenant isolation",
		Long: `Show the tenants of a function that was created with tenant isolation (TenancyConfig), the busiest first:

  environments  made for the tenant; no other tenant's call ever runs in one
  busy          of these, not idle
  calls         that got an environment; a tenant that does not call for an hour is forgotten
  throttles     refused with 429, since the servers started

Environments that have had no call yet are unbound: the next tenant without one of its own takes one over.`,
		Example: `  berth tenants image-analysis
  berth tenants image-analysis --json`,
		Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			list, err := c.Tenants(ctx, args[0])
			if err != nil {
				return explainMissing(err, args[0])
			}
			return a.showTenants(list)
		}),
	}
}

func (a *app) showTenants(list client.TenantList) error {
	if a.json {
		return a.printJSON(list)
	}
	row := func(name string, s client.TenantStatus) []string {
		return []string{name, fmt.Sprint(s.Environments), fmt.Sprint(s.Busy), fmt.Sprint(s.Calls), fmt.Sprint(s.Throttles)}
	}
	rows := make([][]string, 0, len(list.Tenants)+2)
	for _, s := range list.Tenants {
		rows = append(rows, row(s.Tenant, s))
	}
	if list.Others != (client.TenantStatus{}) {
		rows = append(rows, row("(others)", list.Others))
	}
	if list.Unbound > 0 {
		rows = append(rows, []string{"(unbound)", fmt.Sprint(list.Unbound), "", "", ""})
	}
	if len(rows) == 0 {
		a.out.Printf("no tenant has called yet\n")
		return nil
	}
	a.out.Table([]string{"TENANT", "ENVIRONMENTS", "BUSY", "CALLS", "THROTTLES"}, rows)
	if list.Partial {
		a.err.Printf("%s\n", a.err.Paint(ui.Yellow, "not every server answered: the figures may be higher"))
	}
	return nil
}
