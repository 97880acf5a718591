package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
	"berth/clientfile"
)

// TestWrongKeys expects what AWS says to an unknown key and to a wrong signature.
func TestWrongKeys(t *testing.T) {
	sharedClient(t)
	unknown, wrong := shared.Client, shared.Client
	unknown.AccessKeyID = "AKIAIOSFODNN7EXAMPLE"
	wrong.SecretAccessKey += "x"
	for _, c := range []struct {
		file clientfile.File
		code string
	}{{unknown, "UnrecognizedClientException"}, {wrong, "InvalidSignatureException"}} {
		c2 := client.New(c.file)
		_, err := c2.Lambda.ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
		wantCode(t, err, c.code)
		c2.Close()
	}
	env := []string{"AWS_ENDPOINT_URL_LAMBDA=" + shared.URL, "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=x", "HOME=" + t.TempDir()}
	_, errs, code := berth(t, env, "list")
	if code != 1 || !strings.Contains(errs, "does not accept this access key") {
		t.Errorf("berth list with an unknown key: exit code %d, %q", code, errs)
	}
}

func TestClientFileIsPrivate(t *testing.T) {
	sharedClient(t)
	info, err := os.Stat(clientfile.Path(dataDir()))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("client.json has mode %v, %v; want 0600", info.Mode(), err)
	}
	if shared.Client.Account != "000000000001" || shared.Client.Region != "us-east-1" || shared.Client.Endpoint != shared.URL {
		t.Errorf("client.json says account %s, region %s, endpoint %s", shared.Client.Account, shared.Client.Region, shared.Client.Endpoint)
	}
}

// TestDevCredentials: any signature is taken, twelve digits are the account, and only loopback is allowed.
func TestDevCredentials(t *testing.T) {
	needServer(t)
	_, errs, code := berth(t, nil, "serve", "--data", t.TempDir(), "--addr", "0.0.0.0:0", "--dev-credentials")
	if code == 0 || !strings.Contains(errs, "only this machine") {
		t.Errorf("exit code %d and %q, want a refusal", code, errs)
	}
	s := start(t, t.TempDir(), "--dev-credentials")
	for key, account := range map[string]string{"111122223333": "111122223333", "anything": "123456789012"} {
		c := client.New(clientfile.File{Endpoint: s.URL, AccessKeyID: key, SecretAccessKey: "any", Region: "us-east-1"})
		out, err := c.Lambda.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
			FunctionName: aws.String("whose"), Runtime: "provided.al2023", Handler: aws.String("bootstrap"), Role: aws.String(role),
			Code: &types.FunctionCode{ZipFile: zipOf(t, "bootstrap", "#!/bin/sh\n")},
		})
		if err != nil || !strings.Contains(aws.ToString(out.FunctionArn), ":"+account+":") {
			t.Errorf("key %s: %v, want a function of account %s", key, err, account)
		}
		c.Close()
	}
}
