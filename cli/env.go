package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print what AWS clients need to reach the server",
		Long: `Print shell lines that point AWS clients (the aws CLI, SDKs, Terraform) at the server: its address, an access key
and the region. They hold a secret: use them with eval, and keep them out of logs.`,
		Example: `  eval "$(berth env)"
  aws lambda list-functions

  berth env --json | jq -r .AWS_ENDPOINT_URL_LAMBDA`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			server, err := a.serverOfData()
			if err != nil {
				return err
			}
			variables := [][2]string{
				{envLambda, server.Endpoint},
				{envLogs, server.Endpoint},
				{envSTS, server.Endpoint},
				{envKey, server.AccessKeyID},
				{envSecret, server.SecretAccessKey},
				{envRegion, server.Region},
				{envRegion1, server.Region},
			}
			if a.json {
				object := map[string]string{}
				for _, v := range variables {
					object[v[0]] = v[1]
				}
				return a.printJSON(object)
			}
			for _, v := range variables {
				a.out.Printf("export %s=%s\n", v[0], shellQuote(v[1]))
			}
			if a.Getenv(envToken) != "" { // a token of other credentials would be sent along with this key
				a.out.Printf("unset %s\n", envToken)
			}
			return nil
		},
	}
}

// shellQuote makes one word of a POSIX shell out of any text.
func shellQuote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=+@%", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
