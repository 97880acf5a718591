package namespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// attachLoop makes a block device of an image. The device frees itself when its last user closes it (autoclear), so a killed
// daemon leaves none. The returned file keeps it until something is mounted from it.
//
// Another process may take a number between the question for a free one and the answer's use. Whoever loses that race asks
// again after a moment of random length, until ctx ends.
func attachLoop(ctx context.Context, image *os.File) (*os.File, error) {
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/loop-control: %w", err)
	}
	defer unix.Close(control)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		number, err := again(func() (int, error) { return unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE) })
		if err != nil {
			return nil, fmt.Errorf("free loop device: %w", err)
		}
		name := fmt.Sprintf("/dev/loop%d", number)
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: 4096, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		_, err = again(func() (int, error) { return 0, unix.IoctlLoopConfigure(fd, &config) })
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		unix.Close(fd)
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no loop device stayed free: %w", ctx.Err())
		case <-time.After(rand.N(pause)):
		}
	}
}

// mountExt4 returns a new detached mount of the device's file system. Called again while one is alive it mounts the same
// file system once more, without reading the disk.
func mountExt4(device string) (int, error) {
	fs, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen ext4: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return -1, fmt.Errorf("ext4 on %s: %w", device, err)
	}
	// Lazy initialisation would zero inode tables that are holes in a sparse file already.
	if err := unix.FsconfigSetFlag(fs, "noinit_itable"); err != nil {
		return -1, fmt.Errorf("ext4 on %s: %w", device, err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("ext4 on %s: %w", device, err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME)
	if err != nil {
		return -1, fmt.Errorf("ext4 on %s: %w", device, err)
	}
	return mount, nil
}

// copySparse copies only the parts of a file that hold data.
func copySparse(to, from *os.File, size int64) error {
	if err := to.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // holes up to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(from, start, end-start)); err != nil {
			return err
		}
		at = end
	}
	return nil
}
