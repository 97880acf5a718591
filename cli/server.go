package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"berth/clientfile"
)

// The environment variables through which `berth env` tells AWS clients where the server is. AWS's own names.
const (
	envLambda  = "AWS_ENDPOINT_URL_LAMBDA"
	envLogs    = "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"
	envSTS     = "AWS_ENDPOINT_URL_STS"
	envKey     = "AWS_ACCESS_KEY_ID"
	envSecret  = "AWS_SECRET_ACCESS_KEY"
	envToken   = "AWS_SESSION_TOKEN"
	envRegion  = "AWS_REGION"
	envRegion1 = "AWS_DEFAULT_REGION" // what older clients read

	defaultRegion = "us-east-1"
)

// dataDir returns the data directory: --data, else ~/.berth.
func (a *app) dataDir() (string, error) {
	if a.data != "" {
		return filepath.Abs(a.data)
	}
	home := a.Getenv("HOME")
	if home == "" {
		return "", errors.New("no home directory is known: say where the data is with --data DIR")
	}
	return filepath.Join(home, ".berth"), nil
}

// server finds the server and the key: by --data, else by the environment, else in the default data directory.
func (a *app) server() (clientfile.File, error) {
	if a.data == "" && a.Getenv(envLambda) != "" {
		return a.serverOfEnvironment()
	}
	return a.serverOfData()
}

func (a *app) serverOfData() (clientfile.File, error) {
	dir, err := a.dataDir()
	if err != nil {
		return clientfile.File{}, err
	}
	file, err := clientfile.Load(dir)
	switch {
	case errors.Is(err, clientfile.ErrMissing) && a.data == "":
		return file, fmt.Errorf("%w: start one with `berth serve`, or say where its data is with --data DIR", err)
	case errors.Is(err, os.ErrPermission):
		return file, fmt.Errorf("%w: the server runs as another user; use its user, or what `berth env` prints for it", err)
	}
	return file, err
}

func (a *app) serverOfEnvironment() (clientfile.File, error) {
	file := clientfile.File{
		Endpoint:        a.Getenv(envLambda),
		AccessKeyID:     a.Getenv(envKey),
		SecretAccessKey: a.Getenv(envSecret),
		Region:          a.Getenv(envRegion),
	}
	if file.AccessKeyID == "" || file.SecretAccessKey == "" {
		return file, fmt.Errorf("%s is set, but %s or %s is not: set all of them with eval \"$(berth env)\", or use --data DIR",
			envLambda, envKey, envSecret)
	}
	if file.Region == "" {
		file.Region = a.Getenv(envRegion1)
	}
	if file.Region == "" {
		file.Region = defaultRegion
	}
	// On the server's own machine its file also tells which runtimes it has.
	if local, err := a.serverOfData(); err == nil && local.Endpoint == file.Endpoint {
		file.Account, file.Runtimes = local.Account, local.Runtimes
	}
	return file, nil
}
