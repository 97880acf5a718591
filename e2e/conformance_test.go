package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"berth/conformance"
)

// TestRecordings replays the answers recorded on the real service against a real server, with functions that really run.
func TestRecordings(t *testing.T) {
	if os.Getenv("LAMBDA_RECORDINGS") == "" {
		t.Skip("LAMBDA_RECORDINGS does not name the folder of recorded answers")
	}
	sharedClient(t)
	queues := ""
	var args []string
	if s := servicesIfInstalled(t); s != nil {
		queues, args = s.url, []string{"--aws-endpoint", "sqs=" + s.url}
		t.Setenv("AWS_ACCESS_KEY_ID", "test")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	} else {
		t.Log("there is no SQS (make services, or make moto): recordings of queues are left out")
	}
	server := start(t, t.TempDir(), args...).Client
	signer := v4.NewSigner()
	conformance.Run(t, conformance.Target{
		URL:      server.Endpoint,
		Account:  string(server.Account),
		Runtimes: conformance.RuntimesOf(server.Runtimes),
		SQS:      queues,
		Sign: func(r *http.Request, body []byte) error {
			sum := sha256.Sum256(body)
			key := aws.Credentials{AccessKeyID: server.AccessKeyID, SecretAccessKey: server.SecretAccessKey}
			return signer.SignHTTP(context.Background(), key, r, hex.EncodeToString(sum[:]), "lambda", server.Region, time.Now())
		},
	})
}
