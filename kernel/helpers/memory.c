// SPDX-License-Identifier: GPL-2.0
/*
 * The memory of syscall pages, for Rust: allocation, mapping, charges.
 */
#include <linux/capability.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "../helpers.h"

/*
 * Allocate zeroed pages that can be mapped to user space. Each of
 * them is charged to the memory cgroup until its last user drops it,
 * which may be a pipe that the program has put the page into.
 */
void *flexsc_area_alloc(size_t size)
{
	return __vmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
}

void flexsc_area_free(void *area)
{
	vfree(area);
}

/*
 * Map all of @area: not expandable, never executable, and not inherited. VM_IO
 * keeps madvise(MADV_DOFORK) from changing the latter.
 */
int flexsc_mmap(struct vm_area_struct *vma, void *area)
{
	unsigned long addr;

	if (!(vma->vm_flags & VM_SHARED) || !(vma->vm_flags & VM_READ) ||
	    !(vma->vm_flags & VM_WRITE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	vm_flags_mod(vma, VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYEXEC);
	for (addr = vma->vm_start; addr < vma->vm_end; addr += PAGE_SIZE) {
		int ret = vm_insert_page(vma, addr, vmalloc_to_page(area));

		if (ret)
			return ret;
		area += PAGE_SIZE;
	}
	return 0;
}

/*
 * For a debugger, read or write in a mapping of @area, which begins at page
 * @first of the file. Returns the number of bytes, or -errno.
 */
int flexsc_access(struct vm_area_struct *vma, void *area, size_t size,
		  unsigned long first, unsigned long addr, void *buf, int len,
		  bool write)
{
	unsigned long offset = addr - vma->vm_start +
			       ((vma->vm_pgoff - first) << PAGE_SHIFT);

	if (!(vma->vm_flags & (write ? VM_WRITE : VM_READ)))
		return -EACCES;
	if (len < 0 || offset >= size)
		return -EFAULT;
	len = min3((unsigned long)len, size - offset, vma->vm_end - addr);
	if (write)
		memcpy(area + offset, buf, len);
	else
		memcpy(buf, area + offset, len);
	return len;
}

/*
 * Charge @pages to RLIMIT_MEMLOCK of the current task, which belongs to @mm, as
 * pinned memory: unlike locked memory, it can be uncharged when a mapping ends,
 * with the address space locked.
 */
int flexsc_charge_pinned(struct mm_struct *mm, unsigned long pages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	unsigned long sum = atomic64_add_return(pages, &mm->pinned_vm);

	sum += data_race(mm->locked_vm);
	if (sum > limit && !capable(CAP_IPC_LOCK)) {
		s64 left = atomic64_sub_return(pages, &mm->pinned_vm);

		/* Enabled like the assertions of the Rust side. */
		WARN_ON_ONCE(IS_ENABLED(CONFIG_RUST_DEBUG_ASSERTIONS) && left < 0);
		return -ENOMEM;
	}
	return 0;
}

void flexsc_uncharge_pinned(struct mm_struct *mm, unsigned long pages)
{
	atomic64_sub(pages, &mm->pinned_vm);
}
